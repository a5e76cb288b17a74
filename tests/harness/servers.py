"""Starts the real broker and the real database for tests, each in a folder and on ports of its own."""

import ctypes
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.local.servers import database, jaeger, kafka
from tests.harness.wait import poll_until

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


@dataclass
class Server:
    """A server process started for a test; `address` is host:port."""

    address: str
    process: subprocess.Popen[bytes]
    log: Path
    start_again: Callable[[], "Server"]

    def stop(self) -> None:
        """End it in good order, at the latest by SIGKILL after 20 s."""
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def restart(self) -> None:
        """Start it again over the same data, on the same port, after `stop` or `kill`."""
        self.process = self.start_again().process


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on now, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


def start_kafka(directory: Path, ports: Sequence[int] | None = None) -> Server:
    """A one-node Kafka under `directory`, answering when this returns; topics are never created by themselves."""
    port, controller_port = ports or free_ports(2)
    config = kafka.configure(directory, port, controller_port)
    return _start(kafka.command(config), directory, port, kafka.answers,
                  lambda: start_kafka(directory, (port, controller_port)))


def start_database(directory: Path, port: int | None = None) -> Server:
    """The default database under `directory`, answering when this returns."""
    chosen = port or free_ports(1)[0]
    return _start(database.command(directory, chosen), directory, chosen, database.answers,
                  lambda: start_database(directory, chosen))


def start_jaeger(directory: Path) -> tuple[Server, str]:
    """Jaeger with its storage in memory; the server's address is the query API's, and the OTLP endpoint beside it.

    It is built from source where it is not in the tool cache yet, which takes minutes.
    """
    query, query_grpc, otlp, health = free_ports(4)
    directory.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, **jaeger.QUIET, **jaeger.ports(query, query_grpc, otlp, health)}
    server = _start(jaeger.command(), directory, query, jaeger.answers, lambda: start_jaeger(directory)[0], environment)
    return server, f"http://127.0.0.1:{otlp}"


def _start(command: Sequence[str], directory: Path, port: int, answers: Callable[[int], bool],
           start_again: Callable[[], Server], environment: Mapping[str, str] | None = None) -> Server:
    log = directory / "server.log"
    with log.open("ab") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink, stdin=subprocess.DEVNULL, cwd=directory,
                                   env=environment, preexec_fn=_die_with_the_tests)
    server = Server(f"127.0.0.1:{port}", process, log, start_again)
    try:
        poll_until(lambda: process.poll() is not None or answers(port), f"{command[0]} on port {port}", 60)
        assert process.poll() is None, f"ended at start: {log.read_text()[-2000:]}"
    except AssertionError:
        server.kill()
        raise
    return server


def _die_with_the_tests() -> None:
    # A test run that is itself killed must not leave servers behind.
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
