"""The folder backups lie in: how they are named, which there are, and which of them go."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from deploy.backup.archive import sealing
from deploy.backup.archive.parts import ENDING, UNFINISHED
from lepton.errors import Invalid, Missing

log = logging.getLogger(__name__)

_STAMP = "%Y%m%dT%H%M%S"


@dataclass(frozen=True, slots=True)
class Entry:
    """A backup as its header tells it; nothing of it is opened."""

    path: Path
    stack: str
    created: datetime
    size_bytes: int
    sealed_by: str


def name(stack: str, created: datetime) -> str:
    return f"{stack.strip('.')}-{created.astimezone(UTC).strftime(_STAMP)}Z{ENDING}"


def entries(folder: Path) -> list[Entry]:
    """Oldest first. Files that are no backups, or that cannot be read, are passed over; raises Missing without the
    folder."""
    if not folder.is_dir():
        raise Missing("there is no such folder", place=str(folder), remedy="give --to DIR or LEPTON_BACKUP_DIR")
    return sorted(_read(folder), key=lambda entry: entry.created)


def find(folder: Path | None, wanted: str) -> Path:
    """A backup by its path, its name in the folder, or `latest`. Raises Missing."""
    path = Path(wanted).expanduser()
    if path.is_file():
        return path.resolve()
    if folder is None:
        raise Missing("no such backup", place=wanted, remedy="give its path, or the folder with --to")
    there = entries(folder)
    if wanted == "latest" and there:
        return there[-1].path
    found = [entry.path for entry in there if wanted in (entry.path.name, entry.path.name.removesuffix(ENDING))]
    if not found:
        raise Missing(f"no backup {wanted}", place=str(folder), remedy="see `lepton backup list`")
    return found[0]


def prune(folder: Path, stack: str, *, keep: int, keep_days: float, now: datetime) -> list[Path]:
    """Remove backups of the stack that are neither among the newest `keep` nor younger than `keep_days`, and what a
    killed one left; the files removed."""
    of_stack = [entry for entry in entries(folder) if entry.stack == stack]
    gone = _too_old(of_stack, keep, timedelta(days=keep_days), now)
    left = [path for path in folder.glob(f"{stack.strip('.')}-*{ENDING}{UNFINISHED}")
            if now - datetime.fromtimestamp(path.stat().st_mtime, UTC) > timedelta(days=1)]
    for path in (*gone, *left):
        path.unlink(missing_ok=True)
    return [*gone, *left]


def _too_old(of_stack: Sequence[Entry], keep: int, young: timedelta, now: datetime) -> list[Path]:
    return [entry.path for entry in of_stack[:-keep] if now - entry.created > young]


def _read(folder: Path) -> Iterator[Entry]:
    for path in folder.glob(f"*{ENDING}"):
        try:
            with path.open("rb") as file:
                facts = sealing.facts(file, str(path))
            yield Entry(path, str(facts["stack"]), datetime.fromisoformat(str(facts["created"])), path.stat().st_size,
                        str(facts["sealed_by"]))
        except (Invalid, KeyError, ValueError):
            continue
        except FileNotFoundError:
            # The schedule removes old ones meanwhile.
            continue
        except OSError as error:
            log.warning("%s cannot be read, and is passed over: %s", path, error.strerror)
