"""REST routes of dead letters: list, show, replay, discard."""

from dataclasses import asdict
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from services.gateway.edge.http.answers import answer, described
from services.gateway.edge.http.callers import Administers, Reads, TheGateway, Writes
from services.gateway.flow.intake.letters import MAX_SETTLED, LetterFilter, LetterId, Settled

router = APIRouter(prefix="/v1/pipelines/{pipeline}/dead-letters", tags=["dead letters"])

_EXAMPLE: dict[str, Any] = {
    "letter": "events/0/12", "place": "lepton-events-phishing/3@1042", "reason": "wrong_type: Expected `float`, got "
    "`str`", "code": "wrong_type", "field": "https", "attempts": 1, "at": "2026-01-31T12:00:00+00:00",
    "service": "ingest", "source": "file/sites.csv", "row": "sites.csv:17", "replayed": False, "discarded": False,
    "event_id": "e-9", "text": '{"event_id": "e-9", "https": "yes"}'}
_LETTER: dict[str, Any] = {
    "title": "DeadLetter", "type": "object", "properties": {
        "letter": {"type": "string", "description": "Its name here: topic/partition/offset of the dead letters."},
        "place": {"type": "string", "description": "Where it was refused."}, "reason": {"type": "string"},
        "code": {"type": "string"}, "field": {"type": ["string", "null"]}, "attempts": {"type": "integer"},
        "at": {"type": ["string", "null"]}, "service": {"type": "string"}, "source": {"type": "string"},
        "row": {"type": ["string", "null"], "description": "File and row it came from."},
        "replayed": {"type": "boolean"}, "discarded": {"type": "boolean"}, "event_id": {"type": ["string", "null"]},
        "text": {"type": ["string", "null"], "description": "The first 4,096 bytes, as text."}}}
_WHOLE: dict[str, Any] = {**_LETTER, "properties": {
    **_LETTER["properties"], "bytes": {"type": "integer"}, "base64": {"type": "string"}, "key": {"type": "string"},
    "headers": {"type": "object", "additionalProperties": {"type": "string"}}}}
_SETTLED: dict[str, Any] = {
    "title": "Settled", "type": "object", "properties": {
        "dry_run": {"type": "boolean"}, "count": {"type": "integer"},
        "more": {"type": "boolean", "description": "The limit was reached: there may be more."},
        "letters": {"type": "array", "items": _LETTER, "description": "The first hundred."}}}
_SETTLED_EXAMPLE = {"dry_run": False, "count": 1, "more": False, "letters": [_EXAMPLE]}


class Filter(BaseModel):
    """Which letters are meant: all that is said must hold."""

    model_config = ConfigDict(extra="forbid")

    topic: list[str] = Field(default=["events", "labels"], description="events, labels, features, outcomes")
    reason: str | None = Field(default=None, description="A pattern (RE2) found anywhere in the reason.")
    code: str | None = Field(default=None, examples=["wrong_type"])
    field: str | None = Field(default=None, examples=["price"])
    source: str | None = Field(default=None, examples=["file/people.csv"])
    event_id: str | None = None
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    partition: int | None = Field(default=None, ge=0, description="Of the refused record.")
    offset: int | None = Field(default=None, ge=0, description="Of the refused record.")
    letters: list[str] = Field(default=[], max_length=1000, description="Some by name, as in events/0/12.")

    def as_filter(self) -> LetterFilter:
        """Raises Invalid for a name of a letter that is none."""
        told = self.model_dump(exclude={"topic", "letters"})
        return LetterFilter(topics=tuple(self.topic), letters=tuple(map(LetterId.parse, self.letters)), **told)


class Discard(BaseModel):
    """Which letters to mark as dealt with."""

    model_config = ConfigDict(extra="forbid")

    filter: Filter = Filter()
    dry_run: bool = Field(default=False, description="Only say which.")
    limit: int = Field(default=MAX_SETTLED, ge=1, le=MAX_SETTLED)


class Replay(Discard):
    """Which letters to send back, and what instead of some."""

    force: bool = Field(default=False, description="Also those that were replayed or discarded before.")
    edits: dict[str, dict[str, Any]] = Field(default={}, max_length=1000,
                                             description="By letter, the JSON object that goes back instead.")


class Listed(Filter):
    """Which letters to show."""

    limit: int = Field(default=20, ge=1, le=1000, description="How many at most, newest first.")
    all: bool = Field(default=False, description="Also those that were replayed or discarded.")

    def as_filter(self) -> LetterFilter:
        return Filter(**self.model_dump(exclude={"limit", "all"})).as_filter()


@router.get("", summary="List dead letters", responses={
    200: described("Newest first.", _LETTER, [_EXAMPLE], many=True)})
async def list_all(pipeline: str, gateway: TheGateway, _: Reads, asked: Annotated[Listed, Query()]) -> Response:
    """Events and labels that were refused and not dealt with yet, with the reason, the field and their text."""
    return answer(await gateway.letters.list(pipeline, asked.as_filter(), asked.limit, asked.all))


@router.get("/{topic}/{partition}/{offset}", summary="Show a dead letter", responses={
    200: described("All of it, its bytes as base64 too.", _WHOLE, {
        **_EXAMPLE, "bytes": 35, "base64": "eyJldmVudF9pZCI6ICJlLTkifQ==", "key": "site-7",
        "headers": {"ce_id": "e-9"}})})
async def show(pipeline: str, topic: str, partition: str, offset: str, gateway: TheGateway, _: Reads) -> Response:
    return answer(await gateway.letters.show(pipeline, LetterId.parse(f"{topic}/{partition}/{offset}")))


@router.post("/replay", summary="Replay dead letters", responses={
    200: described("What went back, or would.", _SETTLED, _SETTLED_EXAMPLE)})
async def replay(pipeline: str, wanted: Replay, gateway: TheGateway, caller: Writes) -> Response:
    """Send letters back to the topic and partition they came from, oldest first. One goes back once.

    Repeating a call is harmless: what went back is marked in the same transaction.
    """
    edits = {LetterId.parse(where): msgspec.json.encode(value) for where, value in wanted.edits.items()}
    done = await gateway.letters.replay(caller, pipeline, wanted.filter.as_filter(), dry_run=wanted.dry_run,
                                        again=wanted.force, edits=edits, limit=wanted.limit)
    return answer(_settled(done, wanted.dry_run))


@router.post("/discard", summary="Discard dead letters", responses={
    200: described("What is no longer listed, or would be.", _SETTLED, _SETTLED_EXAMPLE)})
async def discard(pipeline: str, wanted: Discard, gateway: TheGateway, caller: Administers) -> Response:
    """Mark letters as dealt with: they are listed only on request, and stay until their retention ends."""
    done = await gateway.letters.discard(caller, pipeline, wanted.filter.as_filter(), dry_run=wanted.dry_run,
                                         limit=wanted.limit)
    return answer(_settled(done, wanted.dry_run))


def _settled(done: Settled, dry_run: bool) -> dict[str, Any]:
    return {"dry_run": dry_run, **asdict(done)}
