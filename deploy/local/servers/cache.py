"""Where downloaded and built tools are kept: outside the clone, built once a machine, whoever asks first."""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from lepton.errors import Unavailable

Say = Callable[[str], None]
Build = Callable[[Path], None]

_COMPLETE = ".complete"


def cache_dir() -> Path:
    """`$LEPTON_CACHE`, else `lepton` in the user's cache folder; it exists on return."""
    named = os.environ.get("LEPTON_CACHE")
    folder = Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lepton"
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


def cached(name: str) -> Path | None:
    """The tool's folder when it is already complete."""
    folder = cache_dir() / name
    return folder if (folder / _COMPLETE).exists() else None


def ensure(name: str, build: Build) -> Path:
    """Return the folder `name` of the cache, calling `build(folder)` first where it is not complete.

    Two processes that ask at once get one build; a build that was interrupted is begun anew.
    """
    found = cached(name)
    if found:
        return found
    folder = cache_dir() / name
    with _locked(folder.with_name(f".{name}.lock")):
        if not (folder / _COMPLETE).exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            build(folder)
            (folder / _COMPLETE).touch()
    return folder


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def require_space(folder: Path, needed_mb: int, what: str) -> None:
    """Raises Unavailable, naming the folder and what is missing, when the disk under `folder` is too full."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free_mb = shutil.disk_usage(existing).free // 2**20
    if free_mb < needed_mb:
        raise Unavailable(f"{free_mb} MB of disk are free and {what} needs {needed_mb} MB", place=str(existing),
                          remedy=f"free {needed_mb - free_mb} MB there, or choose another folder")


def run_tool(command: Sequence[str], what: str, remedy: str, *, env: Mapping[str, str] | None = None,
             cwd: Path | None = None, timeout_s: float = 1800) -> None:
    """Run a build step; raises Unavailable with the last line it said when it fails or cannot be started."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False, cwd=cwd,
                              env=None if env is None else {**os.environ, **env})
    except FileNotFoundError as error:
        raise Unavailable(f"{what} needs {command[0]}, which is not installed", remedy=remedy) from error
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{what} did not end within {timeout_s:.0f} s", remedy=remedy) from error
    if done.returncode != 0:
        said = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        last = said[-1] if said else "no output"
        telling = next((line for line in said if "ERROR" in line or "error:" in line), last)
        raise Unavailable(f"{what} failed (exit {done.returncode}): {telling[:300]}", place=" ".join(command[:4]),
                          remedy=remedy)
