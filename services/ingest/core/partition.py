"""What one partition of the accept stage remembers, and the state records that bring it back."""

from collections.abc import Mapping

import msgspec
import pyarrow as pa

from lepton.contracts.pipeline import Pipeline
from lepton.errors import Invalid
from services.ingest.core.clean.past import Past
from services.ingest.core.clean.times import NO_WATERMARK
from services.ingest.core.dedupe import LastLabels, Plan, Said, Seen
from services.ingest.core.judged import Accepted
from services.ingest.core.keys.state import StateRecord
from services.ingest.core.quarantine import Decision, FieldDecision
from services.ingest.core.steps.all import steps_of
from services.ingest.core.steps.notes import repaired
from services.ingest.core.steps.step import Step

HEAD = b"head"


class Head(msgspec.Struct, frozen=True):
    """Totals of a partition since its generation began, its watermark, and the quarantines it worked under last."""

    accepted: int = 0
    rejected: int = 0
    duplicates: int = 0
    quarantined: int = 0
    decisions: dict[str, Decision] = {}
    content_duplicates: int = 0
    late: int = 0
    future: int = 0
    watermark: int = NO_WATERMARK
    fields: dict[str, FieldDecision] = {}

    def after(self, accepted: Accepted, decisions: Mapping[str, Decision],
              fields: Mapping[str, FieldDecision]) -> "Head":
        tally = accepted.tally
        return Head(self.accepted + tally.accepted, self.rejected + tally.rejected,
                    self.duplicates + tally.duplicates, self.quarantined + tally.quarantined, dict(decisions),
                    self.content_duplicates + tally.content_duplicates, self.late + tally.late,
                    self.future + tally.future, accepted.watermark, dict(fields))


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Head).decode


class EventsPartition:
    """What judging needs of the past, totals, and what the steps remember. A batch is planned, then kept or dropped."""

    def __init__(self, pipeline: Pipeline, partition: int = 0) -> None:
        self._pipeline = pipeline
        self.past = Past.of(pipeline, partition)
        self.head = Head()
        # Statistics come first: they are of values as they were sent, before gaps are filled.
        self.steps: list[Step] = [self.past.statistics, self.past.trees, *steps_of(pipeline)]
        self._pending: tuple[Accepted, Head] | None = None

    def restore(self, records: Mapping[bytes, bytes]) -> None:
        """Raises Invalid when a record of ours cannot be read: going on without it would accept duplicates."""
        try:
            self.head = _decode(records[HEAD]) if HEAD in records else Head()
        except (msgspec.MsgspecError, ValueError) as error:
            raise Invalid(f"the head of a partition's state cannot be read: {error}") from error
        self.past.watermark = self.head.watermark
        self.past.seen.restore(_of(records, Seen.PREFIX))
        self.past.contents.restore(_of(records, Seen.CONTENT))
        for step in self.steps:
            start = f"{step.prefix}/".encode()
            step.restore({key: value for key, value in records.items() if key.startswith(start)})
        self._pending = None

    def adopt(self, pipeline: Pipeline) -> None:
        """Go on under another version from the next batch on."""
        self._pipeline = pipeline
        self.past.adopt(pipeline)
        for step in self.steps:
            step.adopt(pipeline)

    def plan(self, accepted: Accepted, decisions: Mapping[str, Decision],
             fields: Mapping[str, FieldDecision] | None = None) -> tuple[pa.RecordBatch | None, list[StateRecord]]:
        """The accepted rows with what the steps add, and the state to write with the batch.

        What was changed in the rows is counted into `accepted.tally`.
        """
        head = self.head.after(accepted, decisions, fields or {})
        self._pending = (accepted, head)
        batch, state = accepted.batch, [*accepted.plan.records, *accepted.contents.records, (HEAD, _encode(head))]
        if batch is not None:
            for step in self.steps:
                batch, records = step.plan(batch)
                state += records
            accepted.tally.repair(repaired(batch, tuple(self._pipeline.fields)))
        return batch, state

    def keep(self) -> None:
        if self._pending is not None:
            accepted, self.head = self._pending
            self.past.seen.apply(accepted.plan)
            self.past.contents.apply(accepted.contents)
            self.past.watermark = accepted.watermark
            for step in self.steps:
                step.keep()
            self._pending = None

    def drop(self) -> None:
        self._pending = None
        for step in self.steps:
            step.drop()


class LabelsPartition:
    """The newest label of each event, lately."""

    def __init__(self, window: int) -> None:
        self.last = LastLabels(window)
        self._pending: Plan[list[Said]] | None = None

    def restore(self, records: Mapping[bytes, bytes]) -> None:
        """Raises Invalid when a record of ours cannot be read."""
        self.last.restore(_of(records, LastLabels.PREFIX))
        self._pending = None

    def resize(self, window: int) -> None:
        self.last.ring.resize(window)

    def plan(self, entries: list[Said]) -> list[StateRecord]:
        self._pending = self.last.plan(entries)
        return self._pending.records

    def keep(self) -> None:
        if self._pending is not None:
            self.last.apply(self._pending)
            self._pending = None

    def drop(self) -> None:
        self._pending = None


def _of(records: Mapping[bytes, bytes], prefix: str) -> list[bytes]:
    start = f"{prefix}/".encode()
    return [value for key, value in records.items() if key.startswith(start)]
