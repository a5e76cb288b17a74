"""Which ports an installation uses: chosen free the first time, then kept in `<home>/stack.json`."""

import json
import os
import random
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from lepton.errors import Busy, Invalid

PREDICTORS = 2
"""Predictor instances that are defined; the first is started, the actuator starts the others on demand."""

PREDICTOR_NAMES = tuple(f"predictor-{number}" for number in range(PREDICTORS))
SERVICE_INSTANCES = ("gateway", "ingest", "trainer", *PREDICTOR_NAMES, "watchdog", "actuator")
NETWORK = "network"
"""The port by which the proxy of a breakable stack is told of faults."""
_OWN_DOORS = ("kafka", "kafka-controller", "mongo", "rest", *PREDICTOR_NAMES)
# Below the range from which Linux takes the ports of outgoing connections, so that none of these takes ours.
_LOWEST, _HIGHEST = 18000, 31000


@dataclass(frozen=True)
class Stack:
    """Where everything of one installation is. `kafka_bootstrap`/`mongo_url` are set when they are somebody else's."""

    home: Path
    ports: Mapping[str, int]
    kafka_bootstrap: str = ""
    mongo_url: str = ""

    @property
    def kafka(self) -> str:
        return self.kafka_bootstrap or f"127.0.0.1:{self.ports['kafka']}"

    @property
    def mongo(self) -> str:
        """Address of the database; may hold a password, so never print it."""
        return self.mongo_url or f"mongodb://127.0.0.1:{self.ports['mongo']}"

    @property
    def rest(self) -> str:
        return f"http://127.0.0.1:{self.ports['rest']}"

    @property
    def grpc(self) -> str:
        return f"127.0.0.1:{self.ports['predictor-0']}"

    def admin(self, instance: str) -> str:
        return f"http://127.0.0.1:{self.ports[f'admin-{instance}']}"

    @property
    def breakable(self) -> bool:
        """Whether its connections go through a proxy; it stays so from the first `lepton up --breakable` on."""
        return NETWORK in self.ports

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def console_producer(self) -> Path:
        return self.home / "bin" / "kafka-console-producer"

    @property
    def bootstrap_file(self) -> Path:
        """Where the gateway writes the first admin key, readable by its owner alone."""
        return self.home / "admin-key"

    def save(self) -> None:
        """Keep the ports, and the addresses for whoever looks for them (no password among them)."""
        addresses = {"rest": self.rest, "grpc": self.grpc, "kafka": self.kafka,
                     "mongo": "" if self.mongo_url else self.mongo,
                     "admin": {name: self.admin(name) for name in SERVICE_INSTANCES}}
        draft = self.home / "stack.json.new"
        draft.write_text(json.dumps({**addresses, "ports": dict(self.ports)}, indent=2) + "\n")
        draft.replace(self.home / "stack.json")


def external_kafka() -> str:
    """Brokers that settings name instead of our own; empty when they name none."""
    return os.environ.get("LEPTON_KAFKA_BOOTSTRAP", "")


def external_database() -> str:
    return os.environ.get("LEPTON_MONGO_URL", "")


def load(home: Path) -> Stack | None:
    """The installation under `home` as it was brought up last; None when there is none."""
    file = home / "stack.json"
    if not file.exists():
        return None
    try:
        ports = json.loads(file.read_text())["ports"]
        wanted = [*_names(), *(_ways() if NETWORK in ports else ())]
        missing = [name for name in wanted if not isinstance(ports.get(name), int)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Invalid("the record of ports cannot be read", place=str(file), remedy="remove it") from error
    if missing:
        raise Invalid("the record of ports is not complete", field=missing[0], place=str(file), remedy="remove it")
    return Stack(home, ports, external_kafka(), external_database())


def create(home: Path) -> Stack:
    """A new installation on ports nobody uses now."""
    stack = Stack(home, dict(zip(_names(), _free_ports(), strict=False)), external_kafka(), external_database())
    stack.save()
    return stack


def made_breakable(stack: Stack) -> Stack:
    """The same with ports for a proxy between its processes; one that has them stays as it is."""
    if stack.breakable:
        return stack
    free = (port for port in _free_ports() if port not in stack.ports.values())
    made = replace(stack, ports={**stack.ports, **dict(zip(_ways(), free, strict=False))})
    made.save()
    return made


def way(source: str, target: str) -> str:
    """Name of the proxy's port by which `source` reaches `target`."""
    return f"link-{source}-{target}"


def listener(source: str) -> str:
    """Name of the broker's port for `source` alone: what it says of its address differs by who asks."""
    return f"listen-{source}"


def require_free(name: str, port: int, record: Path) -> None:
    """Raises Busy, naming who uses it, when somebody listens on a port that `name` is to have."""
    if _is_free(port):
        return
    raise Busy(f"port {port} of {name} is in use by {_listener(port)}", place=f"127.0.0.1:{port}",
               remedy=f"end that program, or remove {record} to take other ports")


def _names() -> list[str]:
    return [*_OWN_DOORS, *(f"admin-{name}" for name in SERVICE_INSTANCES)]


def _ways() -> list[str]:
    servers = [way(source, target) for source in SERVICE_INSTANCES for target in ("kafka", "database")]
    return [NETWORK, *servers, *(listener(source) for source in SERVICE_INSTANCES),
            *(way("gateway", name) for name in PREDICTOR_NAMES)]


def _free_ports() -> Iterator[int]:
    # A random beginning keeps two installations that are made at once apart.
    port = random.randrange(_LOWEST, _HIGHEST)  # noqa: S311 - no secret
    while True:
        if _is_free(port):
            yield port
        port += 1


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _listener(port: int) -> str:
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,) and connection.pid:
            try:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
            except psutil.NoSuchProcess:
                break
    return "another program"
