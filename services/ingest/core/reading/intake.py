"""What a batch of single events is while it is read: its rows, and the events that are not accepted."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import pyarrow as pa

from lepton.contracts.envelope import SOURCE
from services.ingest.core.cloudevents import Envelope

UNKNOWN_SOURCE = "unknown"

Headers = tuple[tuple[str, bytes], ...]


class RawEvent(Protocol):
    """What this needs of a record on the log."""

    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Headers: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp_ms(self) -> int: ...


@dataclass(slots=True)
class Rejection:
    """Why the event at `position` of its batch is not accepted. `code` is one word, stable for filters.

    Not frozen: being so cost more than everything else about it.
    """

    position: int
    code: str
    message: str
    field: str | None = None
    source: str = UNKNOWN_SOURCE
    row: int | None = None
    """Which row of its record, where that holds several and this one alone is not accepted."""
    original: bytes | None = None
    """The values of that row as they came, as JSON, or as an Arrow stream where JSON cannot hold them."""
    events: int = 1
    """How many events go with it: a record of several may be refused as a whole."""


@dataclass(frozen=True, slots=True)
class Stray:
    """Rows of entities of another partition, as an Arrow stream of their own."""

    partition: int
    rows: int
    data: bytes


class Rejected(Exception):
    """One event is not accepted; caught where its position is known."""

    def __init__(self, code: str, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.field = field


@dataclass(slots=True)
class Intake:
    """Accepted rows of a batch of single events; index i of every list is the same event."""

    positions: list[int] = field(default_factory=list)
    rows: list[Any] = field(default_factory=list)
    envelopes: list[Envelope | None] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    entities: list[str] = field(default_factory=list)
    times: list[datetime | int] = field(default_factory=list)
    """datetime, or microseconds since the epoch."""
    rejections: list[Rejection] = field(default_factory=list)
    values: list[pa.Array] = field(default_factory=list)
    """One array a field, in the Pipeline's order, of its type in a features batch."""
    repairs: pa.Array | None = None
    """What was changed in each row, as in a features batch; None when nothing was."""
    labels: list[Any] = field(default_factory=list)
    """The label of each row, None where it has none; empty for a pipeline whose labels do not come with events."""

    def rejection(self, index: int, code: str, message: str, field: str | None = None) -> Rejection:
        """Why the row at this index is turned away after all."""
        return Rejection(self.positions[index], code, message, field, self.source(index))

    def source(self, index: int) -> str:
        envelope = self.envelopes[index]
        return envelope.source if envelope is not None else UNKNOWN_SOURCE

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with the rows at these indexes, in this order."""
        shared = self.ids is self.entities
        for name in ("positions", "rows", "envelopes", "ids", "entities", "times", "labels"):
            column = getattr(self, name)
            setattr(self, name, [column[row] for row in rows] if column else column)
        if shared:
            self.entities = self.ids
        chosen = pa.array(rows, pa.int64())
        self.values = [column.take(chosen) for column in self.values]
        self.repairs = self.repairs.take(chosen) if self.repairs is not None else None


def source_of(headers: Headers) -> str:
    """Source a record names in its headers, readable or not."""
    for name, value in headers:
        if name == SOURCE:
            return value.decode("utf-8", "replace")
    return UNKNOWN_SOURCE
