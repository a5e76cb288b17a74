"""How the default database process is installed apart from everything else, and started."""

import socket
from pathlib import Path

from deploy.local.servers.environment import installed

LOCK = Path(__file__).parents[3] / "requirements" / "database.lock"


def environment() -> Path:
    """The database's own Python environment, installed on first use from its hashed lock file.

    Its licence (GPL-2.0-only) is why it is a separate process that is never imported.
    """
    return installed(LOCK, "the database", 300)


def command(directory: Path, port: int) -> list[str]:
    """What starts the database on loopback with its files under `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    # An explicit (empty) configuration keeps it from taking up a stray one of the user's.
    config = directory / "secantusd.toml"
    config.touch()
    return [str(environment() / "bin" / "python"), str(environment() / "bin" / "secantusd-py"), "--config",
            str(config), "--host", "127.0.0.1", "--port", str(port), "--storage-path", str(directory / "data"),
            "--sync-on-commit", "--cache-size", "256M", "--oplog-max-entries", "1000", "--log-level", "WARNING"]


def answers(port: int, host: str = "127.0.0.1") -> bool:
    """True once the database accepts connections."""
    try:
        with socket.create_connection((host, port), timeout=1.0):
            return True
    except OSError:
        return False
