"""What is kept of a source between two lives of whoever pulls it: where it goes on, and how much came so far."""

from collections.abc import Sequence
from typing import Any

import msgspec

from lepton.errors import Invalid

PREFIX = "source/"
"""Of the keys in the pipeline's state topic; no partition's state begins so."""

Cursor = dict[str, Any]
"""Where a source goes on: plain values, of a form each kind of source has for itself; empty before the first row."""


class SourceState(msgspec.Struct, frozen=True):
    """`sequence` counts commits. `origin` is that of the spec under which `cursor` was reached."""

    sequence: int = 0
    origin: tuple[str, ...] = ()
    cursor: Cursor = {}
    shown: str = ""
    events: int = 0
    refused: int = 0

    def after(self, cursor: Cursor, shown: str, origin: Sequence[str], *, events: int, refused: int) -> "SourceState":
        return SourceState(self.sequence + 1, tuple(origin), cursor, shown, self.events + events,
                           self.refused + refused)


def key_of(source: str) -> bytes:
    return f"{PREFIX}{source}".encode()


def encode(state: SourceState) -> bytes:
    return msgspec.msgpack.encode(state)


def decode(value: bytes) -> SourceState:
    """Raises Invalid: going on without what was kept would repeat rows."""
    try:
        return msgspec.msgpack.decode(value, type=SourceState)
    except (msgspec.MsgspecError, ValueError) as error:
        raise Invalid(f"the kept state of the source cannot be read: {error}") from error
