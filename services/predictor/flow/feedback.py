"""What became true of predicted events, or is thought of their answers, on its way to the labels topic.

Checked as a whole, then durable or refused.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from lepton.bus.producer import Producer, outgoing
from lepton.bus.records import Outgoing
from lepton.clock import Clock
from lepton.contracts import pipeline
from lepton.contracts.envelope import Envelope
from lepton.contracts.feedback import opinions
from lepton.contracts.feedback.opinions import MAX_REASON_CHARS, Opinion
from lepton.contracts.pb.pipelines_pb2 import PipelineState
from lepton.contracts.pb.prediction_pb2 import (
    FeedbackOpinion,
    FeedbackOutcome,
    FeedbackRequest,
    FeedbackResponse,
)
from lepton.contracts.pipeline import Pipeline
from lepton.contracts.topics import Topic
from lepton.errors import Invalid, LeptonError, Missing
from services.predictor.flow.entities import Entities

CONTENT_TYPE = "application/json"
EVENT_TYPE = "lepton.label"
MAX_OUTCOMES = 10_000
MAX_ID = 256
MAX_VERSION = 2**63 - 1

_MEMBERS = {"float": "number", "int": "number", "bool": "flag", "category": "category"}
"""Member of an outcome that a label of each type comes in."""


class TakesFeedback(Protocol):
    """Where outcomes and opinions go."""

    async def take(self, request: FeedbackRequest, author: str) -> FeedbackResponse:
        """Their event ids in their order, once all are durable. `author`: id of the API key they came with.

        Raises Missing, Invalid, Unavailable.
        """


class Feedback:
    """`known`: the pipelines there are. `source` names this process in what it writes."""

    def __init__(self, producer: Producer, known: Callable[[], Mapping[str, PipelineState]], entities: Entities,
                 clock: Clock, source: str) -> None:
        self._producer = producer
        self._known = known
        self._entities = entities
        self._clock = clock
        self._source = source

    async def take(self, request: FeedbackRequest, author: str) -> FeedbackResponse:
        """Event ids of outcomes and opinions in their order, once all are durable.

        Raises Missing (no such pipeline, or entity), Invalid, Unavailable: some may have been written then, and
        sending the same again is harmless.
        """
        state = self._known().get(request.model)
        if state is None or state.deleted:
            raise Missing(f"there is no pipeline `{request.model}`", field="model", remedy="apply it first")
        spec = pipeline.from_json(state.spec_json)
        if spec.label_type is None and request.outcomes:
            raise Invalid(f"pipeline {spec.name} has no label", field="model", remedy="declare events.label in it")
        told = len(request.outcomes) + len(request.opinions)
        if not 0 < told <= MAX_OUTCOMES:
            raise Invalid(f"{told} outcomes and opinions, a request may hold 1 to {MAX_OUTCOMES}",
                          field="outcomes", remedy="split the request" if told else "say what became true")
        read = [self._read(spec, outcome, place) for place, outcome in enumerate(request.outcomes)]
        thought = [self._opinion(spec, opinion, place, author) for place, opinion in enumerate(request.opinions)]
        await self._send(state, read, thought)
        return FeedbackResponse(event_ids=[label["event_id"] for label in read],
                                opinion_event_ids=[opinion.event_id for opinion in thought])

    async def _send(self, state: PipelineState, read: Sequence[Mapping[str, Any]], thought: Sequence[Opinion]) -> None:
        now = self._clock.now()

        def record(event_id: str, value: bytes, event_type: str, content_type: str) -> Outgoing:
            return outgoing(Topic.LABELS, value, key=event_id, pipeline=state.name, generation=state.generation,
                            envelope=Envelope(event_id=event_id, occurred_at=now, source=self._source,
                                              event_type=event_type, spec_version=state.version,
                                              content_type=content_type))

        await self._producer.send_all([
            *(record(label["event_id"], json.dumps(label, ensure_ascii=False).encode(), EVENT_TYPE, CONTENT_TYPE)
              for label in read),
            *(record(one.event_id, opinions.encode(one), opinions.EVENT_TYPE, opinions.MEDIA_TYPE)
              for one in thought)])

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

    def _opinion(self, spec: Pipeline, opinion: FeedbackOpinion, number: int, author: str) -> Opinion:
        place, said = f"opinions[{number}]", opinion.WhichOneof("said")
        if said is None:
            raise Invalid("the opinion says nothing", field="said", place=place, remedy="send `accepted` or `score`")
        if said == "score" and not -1 <= opinion.score <= 1:
            raise Invalid("the score is not between -1 and 1", field="score", place=place,
                          remedy="send one from -1 to 1, below 0 for a rejection")
        for field, text, most in (("reason", opinion.reason, MAX_REASON_CHARS), ("entity", opinion.entity, MAX_ID)):
            if len(text) > most:
                raise Invalid(f"it is longer than {most} characters", field=field, place=place, remedy="shorten it")
        return Opinion(event_id=self._event(spec, opinion, place), author=author, entity=opinion.entity,
                       accepted=opinion.accepted if said == "accepted" else None,
                       score=opinion.score if said == "score" else None,
                       version=min(opinion.version, MAX_VERSION), reason=opinion.reason)

    def _event(self, spec: Pipeline, outcome: FeedbackOutcome | FeedbackOpinion, place: str) -> str:
        if outcome.event_id:
            if len(outcome.event_id) > MAX_ID:
                raise Invalid(f"the id is longer than {MAX_ID} characters", field="event_id", place=place,
                              remedy="send the event's own id")
            return outcome.event_id
        if not outcome.entity:
            raise Invalid("it does not say of what", field="event_id", place=place,
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
