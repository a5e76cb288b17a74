"""REST routes of data: events and labels in, and what became of them."""

from typing import Any

from fastapi import APIRouter, Request, Response

from services.gateway.edge.errors import WrongMediaType
from services.gateway.edge.http.answers import Responses, answer, body, described, problem
from services.gateway.edge.http.callers import Count, Reads, TheGateway, Writes
from services.gateway.flow.data import Body, Form, Written

router = APIRouter(prefix="/v1/pipelines/{pipeline}", tags=["data"])

FORMS: dict[str, Form] = {
    "application/json": "json", "application/x-ndjson": "ndjson", "application/jsonl": "ndjson",
    "application/cloudevents+json": "cloudevent", "application/cloudevents-batch+json": "cloudevents",
}
_OBJECT = {"type": "object"}
_EVENT = {"event_id": "e-1", "entity_id": "site-7", "https": 1.0, "age_of_domain": 1}
_CLOUDEVENT = {"specversion": "1.0", "id": "e-1", "source": "shop/till-3", "type": "visit", "data": _EVENT}
_EVENTS = body("One event, several, or CloudEvents (structured, batched, or binary with `ce-` headers).", {
    "application/json": ({"oneOf": [_OBJECT, {"type": "array", "items": _OBJECT}]}, _EVENT),
    "application/x-ndjson": ({"type": "string"}, '{"event_id": "e-1", "entity_id": "s"}\n{"event_id": "e-2"}\n'),
    "application/cloudevents+json": (_OBJECT, _CLOUDEVENT),
    "application/cloudevents-batch+json": ({"type": "array", "items": _OBJECT}, [_CLOUDEVENT])})
_LABELS = body("One label, or several.", {
    "application/json": ({"oneOf": [_OBJECT, {"type": "array", "items": _OBJECT}]},
                         {"event_id": "e-1", "entity": "site-7", "label": True, "label_time": "2026-01-31T12:00:00Z"}),
    "application/x-ndjson": ({"type": "string"}, '{"event_id": "e-1", "label": true}\n')})
_WRITTEN: dict[str, Any] = {
    "title": "Written", "type": "object", "properties": {
        "accepted": {"type": "integer"},
        "events": {"type": "array", "items": {"type": "object", "properties": {
            "event_id": {"type": "string"}, "place": {"type": "string", "description": "topic/partition@offset"}}}}}}
_WRITTEN_EXAMPLE = {"accepted": 1, "events": [{"event_id": "e-1", "place": "lepton-events-phishing/3@1042"}]}
_REFUSED = problem("Nothing was written; what is wrong, item by item.", title="Unprocessable Content", status=422,
                   detail="is missing", field="[1].event_id",
                   problems=[{"path": "[1].event_id", "message": "is missing"}])
_TAKEN: Responses = {
    202: described("Every one is durable; ingest looks at it next.", _WRITTEN, _WRITTEN_EXAMPLE), 422: _REFUSED}
_ROWS: dict[str, Any] = {
    "title": "Rows", "type": "object", "properties": {
        "pipeline": {"type": "string"}, "generation": {"type": "integer"},
        "accepted": {"type": "integer", "description": "Accepted rows that are stored."},
        "outcomes": {"type": "integer", "description": "Labels that are stored."},
        "partitions": {"type": "array", "items": _OBJECT}}}
_LETTER: dict[str, Any] = {
    "title": "DeadLetter", "type": "object", "properties": {
        "place": {"type": "string"}, "reason": {"type": "string"}, "field": {"type": ["string", "null"]},
        "attempts": {"type": "integer"}, "at": {"type": ["string", "null"]}, "service": {"type": "string"},
        "replayed": {"type": "boolean"}, "event_id": {"type": ["string", "null"]}, "text": {"type": "string"}}}


async def body_of(request: Request) -> Body:
    """The body and its form by content type. Raises WrongMediaType."""
    media = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    form = FORMS.get(media)
    if form is None:
        raise WrongMediaType(f"{media} is not read here", field="content-type", remedy=f"use {', '.join(FORMS)}")
    attributes = {name.removeprefix("ce-"): value for name, value in request.headers.items() if name.startswith("ce-")}
    return Body(form, await request.body(), attributes)


def _written(records: list[Written]) -> Response:
    places = [{"event_id": record.event_id, "place": record.place} for record in records]
    return answer({"accepted": len(places), "events": places}, 202)


@router.post("/events", summary="Send events", status_code=202, openapi_extra=_EVENTS, responses=_TAKEN)
async def take_events(pipeline: str, request: Request, gateway: TheGateway, caller: Writes) -> Response:
    """Write events to the pipeline's topic, all or none; answered once they are durable.

    Each needs the pipeline's id member (or a CloudEvents id) and its entity member; everything else is looked at by
    ingest. A request that got no answer can be sent again: the same event id has no second effect.
    """
    return _written(await gateway.data.take_events(caller, pipeline, await body_of(request)))


@router.post("/labels", summary="Send labels", status_code=202, openapi_extra=_LABELS, responses=_TAKEN)
async def take_labels(pipeline: str, request: Request, gateway: TheGateway, caller: Writes) -> Response:
    """Say what turned out to be true for events sent before."""
    return _written(await gateway.data.take_labels(caller, pipeline, await body_of(request)))


@router.get("/rows", summary="Count stored rows", responses={
    200: described("Rows in the store.", _ROWS, {"pipeline": "phishing", "generation": 1, "accepted": 1250,
                                                 "outcomes": 1180, "partitions": []})})
async def rows(pipeline: str, gateway: TheGateway, _: Reads) -> Response:
    return answer(await gateway.data.rows(pipeline))


@router.get("/dead-letters", summary="Read dead letters", responses={
    200: described("Newest first.", _LETTER, [
        {"place": "lepton-events-phishing/3@1042", "reason": "Expected `float`, got `str`", "field": "https",
         "attempts": 1, "at": "2026-01-31T12:00:00+00:00", "service": "ingest", "replayed": False, "event_id": "e-9",
         "text": '{"event_id": "e-9", "https": "yes"}'}], many=True)})
async def dead_letters(pipeline: str, gateway: TheGateway, _: Reads, limit: Count = 20) -> Response:
    """Events and labels that were refused, with the reason, the field and their text."""
    return answer(await gateway.data.dead_letters(pipeline, limit))
