"""REST routes of data: events and labels in, and what became of them."""

from typing import Any

from fastapi import APIRouter, Request, Response

from services.gateway.edge.http.answers import Responses, answer, body, described, problem
from services.gateway.edge.http.bodies import FORMS, body_of
from services.gateway.edge.http.callers import Reads, TheGateway, Writes
from services.gateway.flow.data import Written

router = APIRouter(prefix="/v1/pipelines/{pipeline}", tags=["data"])

ARROW = "application/vnd.apache.arrow.stream"
_OBJECT = {"type": "object"}
_EVENT = {"event_id": "e-1", "entity_id": "site-7", "https": 1.0, "age_of_domain": 1}
_CLOUDEVENT = {"specversion": "1.0", "id": "e-1", "source": "shop/till-3", "type": "visit", "data": _EVENT}
_EVENTS = body("One event, several, CloudEvents (structured, batched, or binary with `ce-` headers), or an Arrow "
               "stream whose columns are the pipeline's members.", {
    ARROW: ({"type": "string", "format": "binary"}, "(binary)"),
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
        "accepted": {"type": "integer", "description": "How many events were written."},
        "records": {"type": "array", "description": "For an Arrow stream, in place of `events`: what was written.",
                    "items": {"type": "object", "properties": {
                        "place": {"type": "string"}, "rows": {"type": "integer"}}}},
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



def _written(records: list[Written]) -> Response:
    places = [{"event_id": record.event_id, "place": record.place} for record in records]
    return answer({"accepted": len(places), "events": places}, 202)


@router.post("/events", summary="Send events", status_code=202, openapi_extra=_EVENTS, responses=_TAKEN)
async def take_events(pipeline: str, request: Request, gateway: TheGateway, caller: Writes) -> Response:
    """Write events to the pipeline's topic, all or none; answered once they are durable.

    An Arrow stream is split by entity into records of one partition each, and answered with those. Each event needs the
    pipeline's id member (or a CloudEvents id) and its entity member; everything else is looked at by ingest. A request
    that got no answer can be sent again: the same event id has no second effect.
    """
    sent = await body_of(request, FORMS | {ARROW: "arrow"})
    if sent.form == "arrow":
        stored = await gateway.data.take_stream(caller, pipeline, sent.data, sent.attributes)
        return answer({"accepted": sum(one.rows for one in stored), "records": [
            {"place": one.place, "rows": one.rows} for one in stored]}, 202)
    return _written(await gateway.data.take_events(caller, pipeline, sent))


@router.post("/labels", summary="Send labels", status_code=202, openapi_extra=_LABELS, responses=_TAKEN)
async def take_labels(pipeline: str, request: Request, gateway: TheGateway, caller: Writes) -> Response:
    """Say what turned out to be true for events sent before."""
    return _written(await gateway.data.take_labels(caller, pipeline, await body_of(request, FORMS)))


@router.get("/rows", summary="Count stored rows", responses={
    200: described("Rows in the store.", _ROWS, {"pipeline": "phishing", "generation": 1, "accepted": 1250,
                                                 "outcomes": 1180, "partitions": []})})
async def rows(pipeline: str, gateway: TheGateway, _: Reads) -> Response:
    return answer(await gateway.data.rows(pipeline))
