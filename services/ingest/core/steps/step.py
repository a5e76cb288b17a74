"""What every step of a partition promises."""

from collections.abc import Mapping
from typing import Protocol

import pyarrow as pa

from lepton.contracts.pipeline import Pipeline
from services.ingest.core.keys.state import StateRecord


class Step(Protocol):
    """One kind of memory of one partition. A batch is planned, then kept or dropped; nothing else changes it.

    A plan depends on the kept state and the rows alone, never on where batches begin and end or on the clock: after a
    replay the same rows must give the same columns.
    """

    @property
    def prefix(self) -> str:
        """State records of this step have keys `<prefix>/…`; no two steps share one."""

    def restore(self, records: Mapping[bytes, bytes]) -> None:
        """Remember what the last committed batch left. Raises Invalid when a record cannot be read."""

    def adopt(self, pipeline: Pipeline) -> None:
        """Go on under another version of the Pipeline from the next batch on."""

    def plan(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, list[StateRecord]]:
        """The accepted rows, in the order of their events, with what this step adds, and the state to write with them.

        Nothing is remembered before `keep`; a second `plan` after `drop` begins from the kept state again.
        """

    def keep(self) -> None: ...

    def drop(self) -> None: ...
