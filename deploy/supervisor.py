"""How supervisord is spoken to: XML-RPC over its unix socket, with deadlines and in the project's outcomes."""

import http.client
import socket
import xmlrpc.client
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

from lepton.errors import Invalid, Missing, Unavailable

# supervisor.xmlrpc.Faults
_BAD_NAME, _SPAWN_ERROR, _ALREADY_STARTED, _NOT_RUNNING = 10, 50, 60, 70

RUNNING = frozenset({"STARTING", "RUNNING", "BACKOFF", "STOPPING"})
"""States in which a process exists or is about to."""

ENDED = frozenset({"EXITED", "FATAL", "UNKNOWN"})
"""States of a process that ended by itself or could not be started."""


@dataclass(frozen=True, slots=True)
class Process:
    """What the process manager knows of one program; `pid` is 0 when it does not run, `since` epoch seconds."""

    name: str
    state: str
    pid: int
    exit_status: int
    since: int
    spawn_error: str


class ProcessManager:
    """A running supervisord. Every call raises Unavailable when it cannot be reached within `timeout_s`."""

    def __init__(self, socket_path: Path, timeout_s: float = 10.0) -> None:
        self._path = socket_path
        self._timeout_s = timeout_s

    def alive(self) -> bool:
        try:
            self._call("getState")
        except Unavailable:
            return False
        return True

    def pid(self) -> int:
        return int(self._call("getPID"))

    def processes(self) -> list[Process]:
        return [_process(info) for info in self._call("getAllProcessInfo")]

    def process(self, name: str) -> Process:
        """Raises Missing when no program has that name."""
        return _process(self._call("getProcessInfo", name))

    def start(self, name: str) -> None:
        """Begin to start it; a running one is left as it is. Raises Missing, or Unavailable when it cannot be run."""
        self._call("startProcess", name, False, accept=_ALREADY_STARTED)

    def stop(self, name: str, *, wait: bool = True) -> None:
        """Stop it in order, by SIGKILL once its stop deadline has passed; one that does not run is left as it is."""
        self._call("stopProcess", name, wait, accept=_NOT_RUNNING)

    def signal(self, name: str, signal_name: str) -> None:
        """Send `KILL`, `TERM`, …; one that does not run is left as it is."""
        self._call("signalProcess", name, signal_name, accept=_NOT_RUNNING)

    def shutdown(self) -> None:
        """Stop every process in order, then the manager itself; returns before that is done."""
        self._call("shutdown")

    def _call(self, method: str, *arguments: Any, accept: int | None = None) -> Any:
        # A connection a call: supervisord closes idle ones, and calls may come from several threads.
        transport = _UnixTransport(self._path, self._timeout_s)
        try:
            return getattr(xmlrpc.client.ServerProxy("http://supervisor", transport).supervisor, method)(*arguments)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode == accept:
                return None
            if fault.faultCode == _BAD_NAME:
                raise Missing("the process manager has no such program", field=str(arguments[0])) from fault
            if fault.faultCode == _SPAWN_ERROR:
                raise Unavailable(f"{arguments[0]} could not be started: {fault.faultString}") from fault
            raise Invalid(f"the process manager refused {method}: {fault.faultString}",
                          place=" ".join(map(str, arguments))) from fault
        except (OSError, http.client.HTTPException, xmlrpc.client.Error, ExpatError) as error:
            raise Unavailable("the process manager does not answer", place=str(self._path),
                              remedy="`lepton down`, then `lepton up`") from error
        finally:
            transport.close()


def _process(info: dict[str, Any]) -> Process:
    return Process(info["name"], info["statename"], info["pid"], info["exitstatus"], info["start"], info["spawnerr"])


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("supervisor", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__()
        self._path = path
        self._timeout_s = timeout_s

    def make_connection(self, host: object) -> http.client.HTTPConnection:
        connection = _UnixConnection(self._path, self._timeout_s)
        # Where the inherited `close` looks for it.
        self._connection = (None, connection)
        return connection
