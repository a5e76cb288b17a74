"""One partition of the accept stage without a broker: batches in, what became of every event out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from lepton.bus.records import Record
from lepton.contracts.pipeline import Pipeline
from services.ingest.core.acceptance import Acceptance
from services.ingest.core.clean.policies import Bounds
from services.ingest.core.counting.summary import Tally
from services.ingest.core.partition import EventsPartition
from tests.unit.ingest.samples import record


@dataclass
class Line:
    """`rows` of features, and by offset the code and field of what was refused."""

    pipeline: Pipeline
    champion: Bounds = field(default_factory=dict)
    state: dict[bytes, bytes] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    refused: dict[int, tuple[str, str | None]] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        self.acceptance = Acceptance(self.pipeline, 1)
        self.partition = EventsPartition(self.pipeline)

    def take(self, batch: Sequence[Record]) -> pa.RecordBatch | None:
        """One committed batch."""
        accepted = self.acceptance.judge(batch, self.partition.past, self.champion, frozenset())
        rows, state = self.partition.plan(accepted, {})
        self.state |= dict(state)
        self.partition.keep()
        self.refused |= {batch[one.position].offset: (one.code, one.field) for one in accepted.rejections}
        self.rows += rows.to_pylist() if rows is not None else []
        self.tally.add(accepted.tally)
        return rows

    def abort(self, batch: Sequence[Record]) -> None:
        """One batch that is not committed."""
        self.partition.plan(self.acceptance.judge(batch, self.partition.past, self.champion, frozenset()), {})
        self.partition.drop()

    def restart(self) -> None:
        """Another process goes on from what was written."""
        self.partition = EventsPartition(self.pipeline)
        self.partition.restore(self.state)

    def adopt(self, pipeline: Pipeline) -> None:
        self.pipeline, self.acceptance = pipeline, Acceptance(pipeline, 2)
        self.partition.adopt(pipeline)


def events(*values: Any, first: int = 0, timestamp_ms: int = 1_780_000_000_000) -> list[Record]:
    return [record(value, first + offset, timestamp_ms=timestamp_ms) for offset, value in enumerate(values)]
