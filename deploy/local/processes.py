"""The process manager of an installation: its configuration, its start, and finding what outlived it."""

import contextlib
import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import psutil

from deploy.supervisor import ProcessManager
from lepton.errors import Busy, Invalid, Unavailable

HOME_MARK = "LEPTON_STACK_HOME"
"""Variable that every process of an installation carries, so that it can be found when its manager is gone."""

_RETRIES = 100
"""What the manager restarts by itself waits a second longer each time: more than an hour, for a disk to have room."""
_LONGEST_SOCKET_PATH = 96  # sun_path holds 108 bytes, and supervisor links a temporary name beside it
_START_S = 20.0
_REMARKS = (" ;", " #", "\t;", "\t#")

_HEAD = """\
[unix_http_server]
file={socket}
chmod=0700

[supervisord]
identifier=lepton
directory={root}
logfile={logs}/supervisord.log
logfile_maxbytes=5MB
pidfile={home}/supervisord.pid
childlogdir={logs}
umask=077

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""

_PROGRAM = """
[program:{name}]
command={command}
directory={root}
environment={environment}
autostart=false
autorestart={autorestart}
startsecs=1
startretries={retries}
stopwaitsecs={stop_s}
killasgroup=true
redirect_stderr=true
stdout_logfile={logs}/{name}.log
stdout_logfile_maxbytes=20MB
stdout_logfile_backups=2
priority={priority}
"""


class Supervised(Protocol):
    """What the configuration needs to know of a program."""

    @property
    def name(self) -> str: ...
    @property
    def command(self) -> Sequence[str]: ...
    @property
    def environment(self) -> Mapping[str, str]: ...
    @property
    def restarted(self) -> bool: ...
    @property
    def stop_s(self) -> int: ...


def socket_path(home: Path) -> Path:
    """`<home>/supervisor.sock`; in a private temporary folder where that name is too long for a unix socket."""
    path = home / "supervisor.sock"
    if len(str(path)) <= _LONGEST_SOCKET_PATH:
        return path
    digest = hashlib.sha256(str(home).encode()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"lepton-{os.getuid()}-{digest}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise Unavailable("the folder for the process manager's socket belongs to someone else", place=str(folder),
                          remedy="choose a shorter --home")
    return folder / "supervisor.sock"


def manager(home: Path) -> ProcessManager:
    return ProcessManager(socket_path(home))


@contextlib.contextmanager
def exclusively(home: Path) -> Iterator[None]:
    """Only one `up` or `down` of an installation at a time; raises Busy for a second one."""
    with (home / ".lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Busy("another `lepton up` or `down` is at work here", place=str(home),
                       remedy="wait for it") from error
        yield


def write_configuration(home: Path, root: Path, programs: Iterable[Supervised], shared: Mapping[str, str]) -> bool:
    """Write `<home>/supervisord.conf`; True when it, or a LEPTON_ variable among `shared`, changed.

    What is shared reaches the programs through the manager's own environment: it may hold passwords and any character,
    and only its digest is written.
    """
    logs = home / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    settings = sorted((name, value) for name, value in shared.items() if name.startswith("LEPTON_"))
    text = f"; shared settings {hashlib.sha256(repr(settings).encode()).hexdigest()}\n"
    text += _HEAD.format(socket=_escaped(str(socket_path(home))), root=_escaped(str(root)), home=_escaped(str(home)),
                         logs=_escaped(str(logs)))
    for priority, program in enumerate(programs, start=1):
        environment = ",".join(f"{name}={_quoted(value, name, program.name)}"
                               for name, value in sorted(program.environment.items()))
        text += _PROGRAM.format(
            name=program.name, command=" ".join(f'"{_escaped(word)}"' for word in program.command),
            environment=environment, root=_escaped(str(root)), logs=_escaped(str(logs)), priority=priority,
            autorestart="true" if program.restarted else "false", retries=_RETRIES if program.restarted else 0,
            stop_s=program.stop_s)
    file = home / "supervisord.conf"
    before = file.read_text() if file.exists() else ""
    descriptor = os.open(file.with_suffix(".new"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as sink:
        sink.write(text)
    file.with_suffix(".new").replace(file)
    return text != before


def start_manager(home: Path, shared: Mapping[str, str]) -> ProcessManager:
    """Start supervisord with `shared` as its environment, detached from this terminal; return once it answers.

    A socket or pid file that a crashed machine left behind is no hindrance. Raises Unavailable when it does not start.
    """
    control = manager(home)
    log = home / "logs" / "supervisord.log"
    # It forks, leaves this terminal's session, and its parent ends.
    begun = subprocess.run([sys.executable, "-m", "supervisor.supervisord", "-c", str(home / "supervisord.conf")],
                           stdin=subprocess.DEVNULL, capture_output=True, text=True, env=dict(shared), cwd=home,
                           timeout=_START_S, check=False)
    if begun.returncode or not wait_until(control.alive, _START_S):
        end_processes(home, grace_s=5)
        said = begun.stderr.strip().splitlines()
        raise Unavailable(f"the process manager did not start: {said[-1] if said else last_words(log)}", place=str(log),
                          remedy="see that file")
    return control


def find_processes(home: Path) -> list[psutil.Process]:
    """Every process that belongs to the installation, wherever it came from: manager, programs, their children."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            if process.pid != os.getpid() and process.environ().get(HOME_MARK) == str(home):
                found.append(process)
    return found


def end_processes(home: Path, grace_s: float) -> list[str]:
    """End whatever is left: SIGCONT and SIGTERM, then SIGKILL after `grace_s`. Returns a line for each."""
    left = find_processes(home)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume()
            process.terminate()
    _, alive = psutil.wait_procs(left, timeout=grace_s)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=5)
    forced = {process.pid for process in alive}
    return [f"pid {process.pid} {'killed' if process.pid in forced else 'ended'}" for process in left]


def wait_until(probe: Callable[[], bool], timeout_s: float, every_s: float = 0.1) -> bool:
    """True once `probe` is; False when it was not within `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not probe():
        if time.monotonic() > deadline:
            return False
        time.sleep(every_s)
    return True


def last_words(log: Path, since: int = 0) -> str:
    """The most telling of the last lines a log got after its first `since` bytes; "" when there are none."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(since, log.stat().st_size - 6000))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    telling = [line for line in lines[-40:] if "error" in line.lower() or "remedy" in line.lower()]
    return (telling or lines or [""])[-1][:400]


def require_plain(home: Path) -> None:
    """Raises Invalid when the folder's name holds what the manager's configuration cannot carry."""
    if bad := sorted(set(str(home)) & set("\"'\\;#\n")):
        raise Invalid(f"the folder's name holds {' '.join(map(repr, bad))}", place=str(home),
                      remedy="choose another --home")


def _quoted(value: str, name: str, program: str) -> str:
    """As the manager reads a variable: in quotes that the value has not, and without marks of its own.

    Raises Invalid for one that it would read as another value, or as several.
    """
    quote = next((mark for mark in "\"'" if mark not in value), "")
    # It takes away quotes of either kind at both ends, and what follows a space and one of these as a remark.
    if not quote or value != value.strip("\"'") or "\n" in value or any(mark in value for mark in _REMARKS):
        raise Invalid("the process manager's configuration cannot carry this value", field=name, place=program,
                      remedy="give it in the environment of `lepton up`: that reaches every program as it is")
    return f"{quote}{_escaped(value)}{quote}"


def _escaped(value: str) -> str:
    return value.replace("%", "%%")
