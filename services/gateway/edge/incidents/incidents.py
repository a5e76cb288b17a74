"""REST routes of incidents: listed, read, as a report, and a person's word on one."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response

from lepton.contracts.pb.incidents_pb2 import Incident
from services.gateway.edge.http.answers import answer, described, plain, schema
from services.gateway.edge.http.callers import Administers, Count, Reads, TheGateway
from services.gateway.flow.operations import times

router = APIRouter(prefix="/v1/incidents", tags=["operations"])

_SECONDS: dict[str, dict[str, Any]] = {
    "time_to_detect_s": {"type": ["number", "null"], "description": "From the first sign to `opened_at`; null: nobody "
                                                                    "knows when it began."},
    "time_to_decide_s": {"type": ["number", "null"], "description": "From `opened_at` to the first command; null: "
                                                                    "nothing was commanded."},
    "time_to_heal_s": {"type": ["number", "null"], "description": "From the first command to `closed_at`; null: it is "
                                                                  "not over, or nothing was commanded."}}
_INCIDENT = schema(Incident, **_SECONDS)
_EXAMPLE = {"incident_id": "inc-1", "revision": 3, "state": "VERIFIED", "symptom": "silence",
            "cause": "process:predictor-0", "target": "instance:predictor-0",
            "began_at": "2026-01-31T11:59:59.800Z", "opened_at": "2026-01-31T12:00:02Z",
            "closed_at": "2026-01-31T12:00:05.500Z",
            "timeline": [{"at": "2026-01-31T12:00:02.300Z", "what": "commanded restart", "detail": "inc-1-1"}],
            "time_to_detect_s": 2.2, "time_to_decide_s": 0.3, "time_to_heal_s": 3.2}
_TEXT = {"type": "string"}

Plot = Annotated[str, Query(max_length=200, description="Address of the picture that the report shows, as seen from "
                                                        "where it will lie; empty: it shows none.")]


@router.get("", summary="List incidents", responses={
    200: described("Newest first.", _INCIDENT, [_EXAMPLE], many=True)})
async def incidents(gateway: TheGateway, _: Reads, limit: Count = 50) -> Response:
    return answer([_shown(one) for one in await gateway.operations.incidents(limit)])


@router.get("/{incident_id}", summary="Read an incident", responses={
    200: described("What was seen, done and proven.", _INCIDENT, _EXAMPLE)})
async def incident(incident_id: str, gateway: TheGateway, _: Reads) -> Response:
    return answer(_shown(await gateway.operations.incident(incident_id)))


@router.get("/{incident_id}/report", summary="Read an incident's report", responses={
    200: described("What happened, why, how long it took, what was done.", _TEXT, "# Incident `inc-1`: …",
                   media_type="text/markdown")})
async def report(incident_id: str, gateway: TheGateway, _: Reads, plot: Plot = "timeline.svg") -> Response:
    """Markdown for people: a post-mortem, at any time of the incident. The picture it shows is `timeline.svg` here."""
    text = await gateway.operations.report(incident_id, plot)
    return Response(text, media_type="text/markdown; charset=utf-8")


@router.get("/{incident_id}/timeline.svg", summary="Read an incident's timeline as a picture", responses={
    200: described("The times to detect, decide and heal, and every step.", _TEXT, "<svg …>",
                   media_type="image/svg+xml")})
async def timeline(incident_id: str, gateway: TheGateway, _: Reads) -> Response:
    return Response(await gateway.operations.timeline(incident_id), media_type="image/svg+xml")


@router.post("/{incident_id}/{word}", summary="Approve or deny what an incident asks for", status_code=202,
             responses={202: described("The signed word is durable; the incident's timeline shows what came of it.",
                                       _INCIDENT, _EXAMPLE)})
async def decide(incident_id: str, word: Literal["approve", "deny"], gateway: TheGateway,
                 caller: Administers) -> Response:
    """Only while its `awaiting` names an action. Saying it twice counts once."""
    asked = await gateway.operations.incident(incident_id)
    await gateway.commands.decide(caller, asked, word == "approve")
    return answer(_shown(asked), 202)


def _shown(one: Incident) -> dict[str, Any]:
    took = times(one)
    return {**plain(one), "time_to_detect_s": took.detect_s, "time_to_decide_s": took.decide_s,
            "time_to_heal_s": took.heal_s}
