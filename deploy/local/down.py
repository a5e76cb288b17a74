"""Taking an installation down: in order first, by force what does not go, and proof that nothing is left."""

from pathlib import Path

from deploy.local import processes
from deploy.local.steps import say, step
from deploy.supervisor import ProcessManager
from lepton.errors import Unavailable

_SERVICES_S = 25.0
_MANAGER_S = 50.0
_LAST = frozenset({"kafka", "database"})


def down(home: Path) -> None:
    """No process of the installation runs when this returns; its data stays.

    Raises Unavailable, with their pids, when some cannot be ended.
    """
    control = processes.manager(home)
    if control.alive():
        with step("services stopped"):
            _stop_services(control)
        with step("broker, database and process manager stopped"):
            pid = control.pid()
            control.shutdown()
            processes.wait_until(lambda: pid not in {left.pid for left in processes.find_processes(home)}, _MANAGER_S)
    if forced := processes.end_processes(home, grace_s=8):
        say(f"  had to be ended one by one: {', '.join(forced)}")
    if left := processes.find_processes(home):
        raise Unavailable(f"{len(left)} processes are left: {', '.join(str(one.pid) for one in left)}",
                          place=str(home), remedy="end them by these process ids")
    processes.socket_path(home).unlink(missing_ok=True)
    (home / "supervisord.pid").unlink(missing_ok=True)


def _stop_services(control: ProcessManager) -> None:
    """All at once, so that nobody heals what is meant to end; then broker and database have no clients left."""
    names = [process.name for process in control.processes() if process.pid and process.name not in _LAST]
    for name in names:
        control.stop(name, wait=False)
    processes.wait_until(lambda: not any(process.pid and process.name not in _LAST for process in control.processes()),
                         _SERVICES_S)
