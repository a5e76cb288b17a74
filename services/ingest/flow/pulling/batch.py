"""What a batch of pulled items is written as: events keyed by entity, and dead letters with their place."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from lepton.bus.letters.refusing import DeadLetters
from lepton.bus.producer import outgoing
from lepton.bus.records import Outgoing, Record
from lepton.clock import Clock
from lepton.contracts import topics
from lepton.contracts.envelope import Envelope
from lepton.contracts.source_blocks import SourceSpec
from lepton.contracts.topics import Topic
from lepton.errors import Invalid
from services.ingest.core.pulling.rows import MAX_RAW_BYTES, Bad, Item, Row, Rows
from services.ingest.core.reading.intake import Rejection
from services.ingest.flow.spec import Spec

__all__ = ["Batch", "Batches", "Rejection"]

EVENT_TYPE = "lepton.event"


@dataclass(frozen=True, slots=True)
class Batch:
    """Records in the order of the items, and why some of them are dead letters."""

    records: list[Outgoing] = field(default_factory=list)
    refused: list[Rejection] = field(default_factory=list)


class Batches:
    """Of one source under one version of its pipeline."""

    def __init__(self, spec: Spec, source: SourceSpec, letters: DeadLetters, clock: Clock) -> None:
        self._spec = spec
        self._label = f"source/{source.name}"
        self._rows = Rows(spec.pipeline, source)
        self._letters = letters
        self._clock = clock
        self._events = topics.name(Topic.EVENTS, spec.name, spec.generation)

    def of(self, items: Sequence[Item]) -> Batch:
        """Raises LineStopped past the limit of dead letters."""
        batch = Batch()
        for position, item in enumerate(items):
            if isinstance(item, Bad):
                self._refuse(batch, item.raw, self._why(position, "malformed", item.reason), item.mark)
                continue
            try:
                batch.records.append(self._event(item))
            except Invalid as error:
                code = "missing" if error.message == "is missing" else "malformed"
                self._refuse(batch, _raw(item), self._why(position, code, error.message, error.field), item.mark)
        return batch

    def _event(self, row: Row) -> Outgoing:
        event = self._rows.event(row)
        envelope = Envelope(
            event_id=event.event_id, occurred_at=event.time or self._clock.now(), source=self._label,
            event_type=EVENT_TYPE, spec_version=self._spec.version, traceparent=event.traceparent,
            content_type="application/json")
        return outgoing(Topic.EVENTS, event.value, key=event.entity, pipeline=self._spec.name,
                        generation=self._spec.generation, envelope=envelope)

    def _why(self, position: int, code: str, message: str, member: str | None = None) -> Rejection:
        return Rejection(position, code, message, member, self._label)

    def _refuse(self, batch: Batch, raw: bytes, why: Rejection, mark: str) -> None:
        headers = Envelope(event_id=self._rows.made_id(mark), source=self._label).to_headers()
        # No `@`: nothing of ours lies there to be sent back to.
        place = f"{self._label} {mark}".replace("@", "(at)")
        error = Invalid(f"{why.code}: {why.message}", field=why.field)
        batch.records.append(self._letters.letter(Record(self._events, 0, 0, None, raw, headers), error, at=place))
        batch.refused.append(why)


def _raw(row: Row) -> bytes:
    """The row for a person, and to be mended: JSON as far as there is a form for it."""
    try:
        return msgspec.json.encode(dict(row.values), enc_hook=repr)[:MAX_RAW_BYTES]
    except (ValueError, TypeError, OverflowError, RecursionError):
        return repr(dict(row.values)).encode("utf-8", "replace")[:MAX_RAW_BYTES]
