"""Python environments beside Lepton's own, for what cannot live in it: each from one hashed lock file, in the cache."""

import hashlib
import sys
from pathlib import Path

from deploy.local.servers import cache

_REMEDY = "check that the Python package index can be reached and run the command again"


def installed(lock: Path, holds: str, needed_mb: int, remedy: str = _REMEDY) -> Path:
    """The environment's folder, made on first use and again when the lock file changes.

    `holds` names what is in it, for people. Raises Unavailable with `remedy` when it cannot be made.
    """
    def install(folder: Path) -> None:
        cache.require_space(folder, needed_mb, f"installing {holds}")
        uv = str(Path(sys.executable).parent / "uv")
        cache.run_tool([uv, "venv", "-q", "--allow-existing", "--python", sys.executable, str(folder)],
                       f"making the environment of {holds}", "run `make setup`")
        cache.run_tool([uv, "pip", "sync", "-q", "--require-hashes", "--python", str(folder / "bin" / "python"),
                        str(lock)], f"installing {holds}", remedy)

    key = hashlib.sha256(lock.read_bytes()).hexdigest()[:12]
    return cache.ensure(f"{lock.stem}-{key}", install)
