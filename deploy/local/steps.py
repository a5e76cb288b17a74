"""How a command tells its progress, a line a step, and how it ended."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lepton.errors import LeptonError


class Step:
    """A step in progress; `note` may be set to say what came of it."""

    note = ""


@contextmanager
def step(what: str) -> Iterator[Step]:
    """Print `what`, its note and its duration once the block has ended well."""
    started = time.monotonic()
    current = Step()
    yield current
    told = f"{what} {current.note}".strip()
    print(f"  {told:<72} {time.monotonic() - started:6.1f} s", flush=True)


def ended(command: str, work: Callable[[], int | None]) -> int:
    """Exit code of a command: what `work` gives, 0 for nothing, 1 with one line on stderr, 130 when interrupted."""
    try:
        return work() or 0
    except LeptonError as error:
        print(f"{command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{command}: interrupted", file=sys.stderr)
        return 130


def say(line: str) -> None:
    print(line, flush=True)
