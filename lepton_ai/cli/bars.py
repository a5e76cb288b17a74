"""How far a long command has come: a bar where a terminal shows it, a line now and then where none does."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from lepton.clock import Clock, SystemClock

LINE_EVERY_S = 5.0


class Bar(Protocol):
    def show(self, share: float, text: str) -> None:
        """The state of the moment: a share from 0 to 1, and what there is to say."""


class _Terminal:
    def __init__(self, progress: Progress, title: str) -> None:
        self._progress = progress
        self._task = progress.add_task(title, total=1.0, text="")

    def show(self, share: float, text: str) -> None:
        self._progress.update(self._task, completed=share, text=text)


class _Lines:
    """A line every few seconds, for logs."""

    def __init__(self, title: str, clock: Clock) -> None:
        self._title = title
        self._clock = clock
        self._due = clock.monotonic() + LINE_EVERY_S

    def show(self, share: float, text: str) -> None:
        if self._clock.monotonic() < self._due:
            return
        self._due = self._clock.monotonic() + LINE_EVERY_S
        sys.stderr.write(f"{self._title}: {share:.0%}, {text}\n")
        sys.stderr.flush()


@contextmanager
def bar(title: str) -> Iterator[Bar]:
    """A bar on stderr, gone when the block ends; lines where that is no terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(title, SystemClock())
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=24), TaskProgressColumn(),
               TextColumn("{task.fields[text]}", markup=False), TimeRemainingColumn(compact=True))
    with Progress(*columns, console=console, transient=True) as progress:
        yield _Terminal(progress, title)
