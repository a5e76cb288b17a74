"""One remembered row, and whose event it is of."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Newest:
    """One row of a features batch, its fields and windows by name."""

    row: "pa.RecordBatch"
    event_id: str
    occurred_at: datetime
