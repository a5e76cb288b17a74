"""REST routes of pipelines: apply, check, read, export, delete."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from lepton.contracts.pipeline import InvalidPipeline
from services.gateway.edge.errors import Malformed, listed
from services.gateway.edge.http.answers import answer, body, described, problem
from services.gateway.edge.http.callers import Reads, TheGateway, Writes

router = APIRouter(prefix="/v1/pipelines", tags=["pipelines"])

_YAML = """\
apiVersion: lepton/v1
kind: Pipeline
metadata: {name: phishing}
events:
  id: event_id
  entity: entity_id
  fields:
    https: {type: float, range: [0, 1]}
    age_of_domain: {type: int}
  label: {field: is_phishing, type: bool, arrives: later}
"""
_JSON: dict[str, Any] = {
    "apiVersion": "lepton/v1", "kind": "Pipeline", "metadata": {"name": "phishing"},
    "events": {"id": "event_id", "fields": {"https": {"type": "float", "range": [0, 1]}},
               "label": {"field": "is_phishing", "type": "bool"}},
}
_SPEC = {"type": "object", "required": ["apiVersion", "kind", "metadata", "events"],
         "description": "A Pipeline resource; what is left out has a default."}
_BODY = body("The Pipeline, as YAML or JSON.",
             {"application/yaml": ({"type": "string"}, _YAML), "application/json": (_SPEC, _JSON)})
_VIEW: dict[str, Any] = {
    "title": "Pipeline", "type": "object", "properties": {
        "name": {"type": "string"}, "version": {"type": "integer"}, "generation": {"type": "integer"},
        "partitions": {"type": "integer"}, "digest": {"type": "string"}, "applied_by": {"type": "string"},
        "applied_at": {"type": "string", "format": "date-time"}, "changed": {"type": "boolean"}, "spec": _SPEC,
    },
}
_EXAMPLE = {"name": "phishing", "version": 1, "generation": 1, "partitions": 12, "digest": "9f2c…",
            "applied_by": "lk_0123456789abcdef", "applied_at": "2026-01-31T12:00:00Z", "spec": _JSON}
_MOVED = {**_VIEW, "properties": {**_VIEW["properties"], "drained": {"type": "boolean"}}}
_SOURCE: dict[str, Any] = {
    "title": "Source", "type": "object", "properties": {
        "name": {"type": "string"}, "kind": {"type": "string"}, "state": {
            "type": "string", "description": "starting, pulling, following (all was taken), waiting, failing, stopped, "
                                             "silent, or not pulled yet."},
        "cursor": {"type": "string"}, "events": {"type": "integer"}, "refused": {"type": "integer"},
        "lag": {"type": ["integer", "null"], "description": "How much waits in the source, where that is known."},
        "unit": {"type": "string"}, "reason": {"type": "string"}, "last_error": {"type": "string"},
        "last_error_at": {"type": ["string", "null"]}, "moved_at": {"type": ["string", "null"]},
        "instance": {"type": "string"}}}
_SOURCE_EXAMPLE = {"name": "orders", "kind": "sql", "state": "following", "cursor": "1042", "events": 1042,
                   "refused": 0, "lag": 0, "unit": "rows", "reason": "", "last_error": "", "last_error_at": None,
                   "moved_at": "2026-01-31T12:00:00+00:00", "instance": "ingest"}
_INVALID = problem("Everything that is wrong, each with its line and path.", title="Unprocessable Content", status=422,
                   detail="must be one of float, int, bool, category, text", field="events.fields.https.type",
                   problems=[{"path": "events.fields.https.type", "line": 8, "message": "must be one of float, int, "
                              "bool, category, text", "remedy": "did you mean float?"}])
_INCOMPATIBLE = problem("Rows and models of the current version could not go on under this one.", title="Conflict",
                        status=409, detail="pipeline phishing cannot change like this: field https is gone",
                        remedy="apply it as a new generation (`new_generation`)")
NewGeneration = Annotated[bool, Query(description="Start new topics and a new model, for a change that the current "
                                                  "generation cannot take.")]


class Repartition(BaseModel):
    """Over how many partitions the pipeline's topics are to be spread."""

    model_config = ConfigDict(extra="forbid")
    partitions: int = Field(ge=1, le=1024, examples=[24])


async def text_of(request: Request) -> str:
    """The body as text. Raises Malformed."""
    try:
        return (await request.body()).decode()
    except UnicodeDecodeError as error:
        raise Malformed("the body is not UTF-8", field="body") from error


@router.post("", summary="Apply a pipeline", openapi_extra=_BODY, responses={
    200: described("It is current; `changed` says whether it was not before.", _VIEW, {**_EXAMPLE, "changed": False}),
    201: described("It is new.", _VIEW, {**_EXAMPLE, "changed": True}), 409: _INCOMPATIBLE, 422: _INVALID})
async def apply(request: Request, gateway: TheGateway, caller: Writes,
                new_generation: NewGeneration = False) -> Response:
    """Make a specification current. The same one again changes nothing; a change is a new version.

    Its topics exist when this answers, and every service hears of it without a restart.
    """
    applied = await gateway.pipelines.apply(caller, await text_of(request), new_generation=new_generation)
    view = {**gateway.pipelines.view(applied.state), "changed": applied.changed}
    return answer(view, 201 if applied.created else 200)


@router.post("/validate", summary="Check a pipeline", openapi_extra=_BODY, responses={
    200: described("Whether it could be applied, and everything that is wrong.", {
        "type": "object", "properties": {
            "valid": {"type": "boolean"}, "spec": _SPEC, "problems": {"type": "array"},
            "needs_new_generation": {"type": "array", "items": {"type": "string"}, "description":
                                     "Why rows and models of the current version could not go on under this one."}}},
        {"valid": True, "problems": [], "needs_new_generation": [], "spec": _JSON})})
async def validate(request: Request, gateway: TheGateway, _: Reads) -> Response:
    """Say what is wrong with a specification, and what it would break, without applying it."""
    try:
        pipeline = gateway.pipelines.validate(await text_of(request))
    except InvalidPipeline as error:
        return answer({"valid": False, "problems": listed(error.problems)})
    reasons = await gateway.pipelines.too_different(pipeline)
    return answer({"valid": True, "problems": [], "needs_new_generation": reasons, "spec": pipeline.to_data()})


@router.get("", summary="List pipelines",
            responses={200: described("All that are not deleted, by name.", _VIEW, [_EXAMPLE], many=True)})
async def list_all(gateway: TheGateway, _: Reads) -> Response:
    return answer(gateway.pipelines.list())


@router.get("/{pipeline}", summary="Read a pipeline", responses={200: described("Its current state.", _VIEW, _EXAMPLE)})
async def get(pipeline: str, gateway: TheGateway, _: Reads) -> Response:
    return answer(await gateway.pipelines.get(pipeline))


@router.get("/{pipeline}/export", summary="Export a pipeline as YAML", responses={
    200: described("Its specification, every default written out.", {"type": "string"}, _YAML,
                   media_type="application/yaml")})
async def export(pipeline: str, gateway: TheGateway, _: Reads) -> Response:
    return Response(await gateway.pipelines.export(pipeline), media_type="application/yaml")


@router.get("/{pipeline}/sources", summary="Read the sources a pipeline pulls", responses={
    200: described("In the order of the specification.", _SOURCE, [_SOURCE_EXAMPLE], many=True)})
async def sources(pipeline: str, gateway: TheGateway, _: Reads) -> Response:
    """How far each was read, how many events came of it, and why one waits or fails."""
    return answer(await gateway.pulled.of(pipeline))


@router.post("/{pipeline}/repartition", summary="Spread a pipeline over other partitions", responses={
    200: described("It works on topics of a new generation.", _MOVED, {**_EXAMPLE, "generation": 2, "drained": True})})
async def repartition(pipeline: str, wanted: Repartition, gateway: TheGateway, caller: Writes) -> Response:
    """Drain it and move it to topics of a new generation, in at most half a minute; its rows and its model go on.

    `drained` is false when records still waited on the former topics: they are carried over, as is what producers
    that have not heard yet still send there. The window in which duplicates are known, and windowed features, begin
    anew.
    """
    moved = await gateway.pipelines.repartition(caller, pipeline, wanted.partitions)
    return answer({**gateway.pipelines.view(moved.state), "drained": moved.drained})


@router.delete("/{pipeline}", summary="Delete a pipeline", status_code=204)
async def delete(pipeline: str, gateway: TheGateway, caller: Writes) -> Response:
    """End a pipeline: every service lets go of it. Its topics and rows stay until their retention ends."""
    await gateway.pipelines.delete(caller, pipeline)
    return Response(status_code=204)
