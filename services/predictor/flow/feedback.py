"""What became true of predicted events, on its way to the labels topic: checked as a whole, then durable or refused."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from lepton.bus.producer import Producer, outgoing
from lepton.clock import Clock
from lepton.contracts import pipeline
from lepton.contracts.envelope import Envelope
from lepton.contracts.pb.pipelines_pb2 import PipelineState
from lepton.contracts.pb.prediction_pb2 import FeedbackOutcome, FeedbackRequest
from lepton.contracts.pipeline import Pipeline
from lepton.contracts.topics import Topic
from lepton.errors import Invalid, LeptonError, Missing
from services.predictor.flow.entities import Entities

CONTENT_TYPE = "application/json"
EVENT_TYPE = "lepton.label"
MAX_OUTCOMES = 10_000
MAX_ID = 256

_MEMBERS = {"float": "number", "int": "number", "bool": "flag", "category": "category"}
"""Member of an outcome that a label of each type comes in."""


class TakesFeedback(Protocol):
    """Where outcomes go."""

    async def take(self, request: FeedbackRequest) -> list[str]:
        """Event ids of the outcomes in their order, once all are durable. Raises Missing, Invalid, Unavailable."""


class Feedback:
    """`known`: the pipelines there are. `source` names this process in what it writes."""

    def __init__(self, producer: Producer, known: Callable[[], Mapping[str, PipelineState]], entities: Entities,
                 clock: Clock, source: str) -> None:
        self._producer = producer
        self._known = known
        self._entities = entities
        self._clock = clock
        self._source = source

    async def take(self, request: FeedbackRequest) -> list[str]:
        """Event ids of the outcomes in their order, once all are durable.

        Raises Missing (no such pipeline, or entity), Invalid, Unavailable: some may have been written then, and
        sending the same again is harmless.
        """
        state = self._known().get(request.model)
        if state is None or state.deleted:
            raise Missing(f"there is no pipeline `{request.model}`", field="model", remedy="apply it first")
        spec = pipeline.from_json(state.spec_json)
        if spec.label_type is None:
            raise Invalid(f"pipeline {spec.name} has no label", field="model", remedy="declare events.label in it")
        if not 0 < len(request.outcomes) <= MAX_OUTCOMES:
            raise Invalid(f"{len(request.outcomes)} outcomes, a request may hold 1 to {MAX_OUTCOMES}",
                          field="outcomes", remedy="split the request")
        read = [self._read(spec, outcome, place) for place, outcome in enumerate(request.outcomes)]
        await self._send(state, read)
        return [label["event_id"] for label in read]

    async def _send(self, state: PipelineState, read: Sequence[Mapping[str, Any]]) -> None:
        now = self._clock.now()
        await self._producer.send_all([
            outgoing(Topic.LABELS, json.dumps(label, ensure_ascii=False).encode(), key=label["event_id"],
                     pipeline=state.name, generation=state.generation, envelope=Envelope(
                         event_id=label["event_id"], occurred_at=now, source=self._source, event_type=EVENT_TYPE,
                         spec_version=state.version, content_type=CONTENT_TYPE))
            for label in read])

    def _read(self, spec: Pipeline, outcome: FeedbackOutcome, number: int) -> dict[str, Any]:
        place, member = f"outcomes[{number}]", _MEMBERS[str(spec.label_type)]
        if outcome.WhichOneof("label") != member:
            raise Invalid(f"the label of {spec.name} is of type {spec.label_type}", field="label", place=place,
                          remedy=f"send it as `{member}`")
        label: dict[str, Any] = {"event_id": self._event(spec, outcome, place), "label": getattr(outcome, member)}
        if outcome.entity:
            label["entity"] = outcome.entity
        if outcome.HasField("label_time"):
            label["label_time"] = outcome.label_time.ToJsonString()
        return label

    def _event(self, spec: Pipeline, outcome: FeedbackOutcome, place: str) -> str:
        if outcome.event_id:
            if len(outcome.event_id) > MAX_ID:
                raise Invalid(f"the id is longer than {MAX_ID} characters", field="event_id", place=place,
                              remedy="send the event's own id")
            return outcome.event_id
        if not outcome.entity:
            raise Invalid("the outcome says not of what", field="event_id", place=place,
                          remedy="send the event's id, or its entity")
        try:
            newest = self._entities.find(spec.name, outcome.entity)
        except LeptonError as error:
            error.place = place
            raise
        if outcome.HasField("at") and outcome.at.ToNanoseconds() < _nanoseconds(newest.occurred_at.timestamp()):
            raise Missing(f"of entity {outcome.entity!r} only the newest event is remembered, which is of "
                          f"{newest.occurred_at.isoformat()}", field="at", place=place,
                          remedy="name the event by its id")
        return newest.event_id


def _nanoseconds(seconds: float) -> int:
    # Events are kept by the microsecond.
    return round(seconds * 1_000_000) * 1000
