"""How progress is told: a line a step, with what came of it and how long it took."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


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


def say(line: str) -> None:
    print(line, flush=True)
