"""What became of a batch of events, before any of it has happened."""

from dataclasses import dataclass, field

import pyarrow as pa

from lepton.contracts.pb.outcomes_pb2 import Outcome
from services.ingest.core.counting.summary import Tally
from services.ingest.core.dedupe import Plan
from services.ingest.core.keys.keys import Keys
from services.ingest.core.reading.intake import Rejection, Stray


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a batch leads to. Nothing of it has happened yet."""

    batch: pa.RecordBatch | None
    """Accepted rows, in the order of their events; None when there is none."""
    traces: list[str | None] | None
    """Traceparent of each row's event where that is sampled; None when none is."""
    outcomes: list[Outcome]
    rejections: list[Rejection]
    plan: Plan[Keys]
    contents: Plan[Keys]
    watermark: int
    """Highest event time seen, in microseconds since the epoch."""
    tally: Tally
    strays: list[tuple[int, Stray]] = field(default_factory=list)
    """Rows of entities of other partitions, and the position of the record each came in."""
