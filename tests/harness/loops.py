"""Which loops over records and events this checkout has: Python always, the native ones where they are built."""

from collections.abc import Iterator
from contextlib import contextmanager

from lepton.native import Wanted, built, choose
from lepton.native.choice import use

LOOPS: tuple[Wanted, ...] = ("python",) if built() is None else ("python", "native")


@contextmanager
def looping(wanted: Wanted) -> Iterator[None]:
    """What is opened inside uses these."""
    use(wanted)
    try:
        yield
    finally:
        choose("auto")
