"""What a label is: read from its own record, or from the event it came with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import msgspec

from lepton.contracts.envelope import ARRIVED
from lepton.contracts.feedback.opinions import is_opinion
from lepton.contracts.pb.outcomes_pb2 import Outcome
from lepton.contracts.pipeline import Pipeline
from lepton.contracts.pipeline_blocks import FieldSpec
from services.ingest.core.cloudevents import Mode, mode_of
from services.ingest.core.dedupe import Said
from services.ingest.core.quality import explain, moment
from services.ingest.core.reading.intake import RawEvent, Rejected, Rejection, source_of
from services.ingest.core.schema import MAX_ID_CHARS, typed

_MEMBERS = {"float": "number", "int": "number", "bool": "flag", "category": "category"}
# The year 5138 and later are no time a label came at.
_MS_DIGITS = 15


@dataclass(frozen=True, slots=True)
class LabelIntake:
    """Labels of a batch; index i of the first three lists is the same record."""

    outcomes: list[Outcome]
    positions: list[int]
    stated: list[bool]
    """Whether the record says of what time it is."""
    rejections: list[Rejection]


def as_text(label: float | bool | str) -> str:
    """A label for comparing with another of its pipeline."""
    return repr(label)


class Labels:
    """Reads labels of one Pipeline version, which has one."""

    def __init__(self, pipeline: Pipeline, spec_version: int) -> None:
        kind = pipeline.label_type or ""
        self._member = _MEMBERS[kind]
        self._spec_version = spec_version
        label = typed(FieldSpec(type=kind, categories=pipeline.label_categories))  # type: ignore[arg-type]
        name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID_CHARS)]
        number = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
        time = Annotated[datetime, msgspec.Meta(tz=True)] | int | float
        record = msgspec.defstruct("Label", [
            ("event_id", name | number), ("label", label), ("entity", name | number | None, None),
            ("label_time", time | None, None),
        ], kw_only=True, gc=False, frozen=True)
        self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(record).decode

    def read(self, records: Sequence[RawEvent]) -> LabelIntake:
        """Every record is in the answer once, but opinions: they are no labels, and the watchdog reads them."""
        intake = LabelIntake([], [], [], [])
        for position, record in enumerate(records):
            if is_opinion(record.headers):
                continue
            try:
                outcome, stated = self._outcome(record)
            except (Rejected, ValueError, RecursionError) as error:
                why = explain(error)
                intake.rejections.append(Rejection(position, why.code, str(why), why.field, source_of(record.headers)))
            else:
                intake.outcomes.append(outcome)
                intake.positions.append(position)
                intake.stated.append(stated)
        return intake

    def _outcome(self, record: RawEvent) -> tuple[Outcome, bool]:
        if record.value is None:
            raise Rejected("malformed", "no value")
        content_type = next((value for name, value in record.headers if name == "content-type"), None)
        if mode_of(content_type) is not Mode.PLAIN:
            raise Rejected("content_type", "a label is sent as application/json", "content-type")
        record.value.decode()
        found = self._decode(record.value)
        event_id = _name(found.event_id, "event_id")
        entity = event_id if found.entity is None else _name(found.entity, "entity")
        time = moment(found.label_time, record, "label_time") if found.label_time is not None else _arrival_us(record)
        return (self.outcome(event_id, entity, found.label, time, with_event=False), found.label_time is not None)

    def outcome(self, event_id: str, entity: str, label: float | bool | str, time: datetime | int, *,
                with_event: bool) -> Outcome:
        """`time` is a datetime, or microseconds since the epoch."""
        outcome = Outcome(event_id=event_id, entity=entity, spec_version=self._spec_version, with_event=with_event,
                          **{self._member: label})  # type: ignore[arg-type]
        if isinstance(time, datetime):
            outcome.label_time.FromDatetime(time)
        else:
            outcome.label_time.FromMicroseconds(time)
        return outcome

    def said(self, intake: LabelIntake) -> list[Said]:
        return [(outcome.event_id, as_text(getattr(outcome, self._member)),
                 *((str(outcome.label_time.ToMicroseconds()),) if stated else ()))
                for outcome, stated in zip(intake.outcomes, intake.stated, strict=True)]


def _arrival_us(record: RawEvent) -> int:
    """When the label came, by the broker's clock: also of one that was carried over to another topic since."""
    arrived = next((value for name, value in record.headers if name == ARRIVED), None)
    if arrived is None:
        return record.timestamp_ms * 1000
    if not (arrived.isdigit() and len(arrived) < _MS_DIGITS):
        raise Rejected("wrong_type", f"{arrived!r} are no milliseconds since the epoch", ARRIVED)
    return int(arrived) * 1000


def _name(value: str | int, member: str) -> str:
    name = str(value)
    if not name.isprintable() and any(ord(letter) < 32 or ord(letter) == 127 for letter in name):
        raise Rejected("malformed", "holds control characters", member)
    return name
