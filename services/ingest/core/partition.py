"""What one partition of the accept stage remembers, and the state records that bring it back."""

from collections.abc import Mapping

import msgspec
import pyarrow as pa

from lepton.contracts.pipeline import Pipeline
from lepton.errors import Invalid
from services.ingest.core.acceptance import Accepted
from services.ingest.core.dedupe import LastLabels, Plan, Seen, StateRecord
from services.ingest.core.quarantine import Decision
from services.ingest.core.steps.all import steps_of
from services.ingest.core.counting.summary import Tally

HEAD = b"head"


class Head(msgspec.Struct, frozen=True):
    """Totals of a partition since its generation began, and the quarantines it worked under last."""

    accepted: int = 0
    rejected: int = 0
    duplicates: int = 0
    quarantined: int = 0
    decisions: dict[str, Decision] = {}

    def after(self, tally: Tally, decisions: Mapping[str, Decision]) -> "Head":
        return Head(self.accepted + tally.accepted, self.rejected + tally.rejected,
                    self.duplicates + tally.duplicates, self.quarantined + tally.quarantined, dict(decisions))


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Head).decode


class EventsPartition:
    """Accepted events lately, totals, and what the steps remember. A batch is planned, then kept or dropped."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.seen = Seen(pipeline.events.dedupe_window)
        self.head = Head()
        self.steps = steps_of(pipeline)
        self._pending: tuple[Plan[str], Head] | None = None

    def restore(self, records: Mapping[bytes, bytes]) -> None:
        """Raises Invalid when a record of ours cannot be read: going on without it would accept duplicates."""
        try:
            self.head = _decode(records[HEAD]) if HEAD in records else Head()
        except (msgspec.MsgspecError, ValueError) as error:
            raise Invalid(f"the head of a partition's state cannot be read: {error}") from error
        self.seen.restore(_of(records, Seen.PREFIX))
        for step in self.steps:
            start = f"{step.prefix}/".encode()
            step.restore({key: value for key, value in records.items() if key.startswith(start)})
        self._pending = None

    def adopt(self, pipeline: Pipeline) -> None:
        """Go on under another version from the next batch on."""
        self.seen.ring.resize(pipeline.events.dedupe_window)
        for step in self.steps:
            step.adopt(pipeline)

    def plan(self, accepted: Accepted,
             decisions: Mapping[str, Decision]) -> tuple[pa.RecordBatch | None, list[StateRecord]]:
        """The accepted rows with what the steps add, and the state to write with the batch."""
        head = self.head.after(accepted.tally, decisions)
        self._pending = (accepted.plan, head)
        batch, state = accepted.batch, [*accepted.plan.records, (HEAD, _encode(head))]
        if batch is not None:
            for step in self.steps:
                batch, records = step.plan(batch)
                state += records
        return batch, state

    def keep(self) -> None:
        if self._pending is not None:
            plan, self.head = self._pending
            self.seen.apply(plan)
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
        self._pending: Plan[tuple[str, str]] | None = None

    def restore(self, records: Mapping[bytes, bytes]) -> None:
        """Raises Invalid when a record of ours cannot be read."""
        self.last.restore(_of(records, LastLabels.PREFIX))
        self._pending = None

    def resize(self, window: int) -> None:
        self.last.ring.resize(window)

    def plan(self, entries: list[tuple[str, str]]) -> list[StateRecord]:
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
