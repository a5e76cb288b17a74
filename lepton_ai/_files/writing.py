"""Files that a person asked for: written whole or not at all, and a clear word where that cannot be done."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lepton.errors import Refused


@contextmanager
def writes(place: Path, field: str | None = None) -> Iterator[None]:
    """Raises Refused where the disk takes no more within, or the place may not be written to."""
    try:
        yield
    except OSError as failure:
        raise Refused(f"cannot be written: {failure.strerror}", field=field, place=str(place),
                      remedy="name a place with room, that you may write to") from failure


@contextmanager
def whole(target: Path) -> Iterator[Path]:
    """Where to write what becomes `target`, through links, when all of it is there; else that stays as it was.

    A pipe or a device has no such place and is written as it is.
    """
    if target.exists() and not target.is_file():
        yield target
        return
    found = target.resolve()
    draft = found.with_name(f".{found.name}.{os.getpid()}")
    try:
        yield draft
        draft.replace(found)
    finally:
        draft.unlink(missing_ok=True)
