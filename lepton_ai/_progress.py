"""What a person sees while a call takes its time: one line that is rewritten, and only where a terminal shows it."""

import sys
from typing import Protocol, TextIO


class Progress(Protocol):
    def show(self, line: str) -> None:
        """The state of the moment, in place of the one before."""

    def done(self, line: str) -> None:
        """What a step came to."""


class Quiet:
    """Says nothing."""

    def show(self, line: str) -> None:
        """Nothing to be seen."""

    def done(self, line: str) -> None:
        """Nothing to be seen."""


class Terminal:
    """Writes to a terminal. `done` lines stay."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._width = 0

    def show(self, line: str) -> None:
        self._stream.write("\r" + line.ljust(self._width))
        self._stream.flush()
        self._width = len(line)

    def done(self, line: str) -> None:
        self.show(line)
        self._stream.write("\n")
        self._width = 0


def default() -> Progress:
    """Progress on stderr where that is a terminal, else none: a program's output is its own."""
    return Terminal(sys.stderr) if sys.stderr is not None and sys.stderr.isatty() else Quiet()
