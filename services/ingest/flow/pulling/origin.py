"""What whoever pulls asks of a connection to a source; and, for the wires, the decisions they reach through here."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from lepton.contracts.source_blocks import SourceSpec
from services.ingest.core.pulling import files
from services.ingest.core.pulling.files import Found as FileFound
from services.ingest.core.pulling.files import Mark as FileMark
from services.ingest.core.pulling.http import Paging as HttpPaging
from services.ingest.core.pulling.http import retry_after_s
from services.ingest.core.pulling.rows import Bad, Item, Row
from services.ingest.core.pulling.sql import Place as SqlPlace
from services.ingest.core.pulling.state import Cursor
from services.ingest.core.pulling.texts import Lines
from services.ingest.core.pulling.texts import record as record_item

__all__ = ["Bad", "Cursor", "FileFound", "FileMark", "HttpPaging", "Item", "Lines", "OpenOrigin", "Origin", "Pulled",
           "Row", "SqlPlace", "files", "record_item", "retry_after_s"]


@dataclass(frozen=True, slots=True)
class Pulled:
    """What a source gave, and where it goes on after that. `more`: there is more to take at once."""

    items: list[Item]
    cursor: Cursor
    shown: str
    more: bool = False
    lag: int | None = None
    """How much waits in the source, in the origin's `unit`, where that is known."""
    losses: list[str] = field(default_factory=list)
    """What went before it could be taken, for a person."""


class Origin(Protocol):
    """A connection to a source. Every method raises a LeptonError when the source cannot be used now or so."""

    unit: str

    async def open(self, cursor: Cursor) -> None: ...

    async def read(self, cursor: Cursor) -> Pulled:
        """What follows `cursor`, in bounded time and memory; may be cancelled, and then closed, at any moment."""

    async def close(self) -> None:
        """Never raises."""


OpenOrigin = Callable[[SourceSpec, str], Origin]
"""(spec, client id) -> a connection that is not open yet. Raises Missing for a secret that is not set."""
