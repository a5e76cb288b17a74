"""REST routes of models: read, predict, train, promote, roll back; and of the runs that make them."""

from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from google.protobuf import json_format
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StrictBool

from lepton.contracts.pb.models_pb2 import ModelManifest, ModelState, ModelVersion
from lepton.contracts.pb.prediction_pb2 import FeedbackRequest, Joined, PredictRequest, RowError
from lepton.contracts.pb.training_pb2 import CoursePoint, TrainingProgress
from lepton.contracts.pipeline import Problem
from services.gateway.edge.errors import Malformed
from services.gateway.edge.http.answers import Responses, answer, described, plain, schema
from services.gateway.edge.http.callers import Count, Predicts, Reads, TheGateway, Trains, Writes
from services.gateway.edge.http.context import request_id
from services.gateway.edge.registry.ordered import COMMAND, COMMAND_EXAMPLE, asked
from services.gateway.flow.data import InvalidBody
from services.gateway.flow.models import Run, Training

router = APIRouter(prefix="/v1", tags=["models"])
runs_router = APIRouter(prefix="/v1/runs", tags=["runs"])

_ROW = {"https": 1.0, "age_of_domain": 1}


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Predict(_Request):
    """Rows to predict, by the names of the Pipeline's fields."""

    rows: list[dict[str, Any]] = Field(default=[], max_length=100_000, examples=[[_ROW]],
                                       description="A field left out or null is missing.")
    version: int = Field(default=0, ge=0, description="0: the version in production.")
    request_id: str = Field(default="", max_length=256, description="Echoed; the event id of a single row.")
    entity: str = Field(default="", max_length=256,
                        description="Whom the rows are about: answered by one version while another is tried.")
    explain: bool = Field(default=False, description="Answer with what each field did; 422 from a version that cannot.")
    entities: list[str] = Field(default=[], max_length=100_000, description="By row: the entity whose newest features "
                                "stand where the row names no field; empty for none. May come without rows.")
    each: bool = Field(default=False, description="A row that cannot be answered has an `error`, and the others do not "
                                                  "fail with it.")


class Outcome(_Request):
    """What became true of one event."""

    event_id: str = Field(default="", max_length=256)
    entity: str = Field(default="", max_length=256, description="Instead of `event_id`: the entity's newest event.")
    at: AwareDatetime | None = Field(default=None, description="The newest event at this time; Missing for an earlier.")
    label: StrictBool | float | str = Field(description="Of the type of the pipeline's label.")
    label_time: AwareDatetime | None = Field(default=None, description="When it became known; left out, now.")


class Opinion(_Request):
    """What is thought of an answer, where nobody knows the truth: one of `accepted` and `score`. No model learns it."""

    event_id: str = Field(default="", max_length=256)
    entity: str = Field(default="", max_length=256, description="Instead of `event_id`: the entity's newest event.")
    at: AwareDatetime | None = Field(default=None, description="As of an outcome.")
    accepted: StrictBool | None = None
    score: float | None = Field(default=None, ge=-1, le=1, description="Below 0 it is a rejection.")
    reason: str = Field(default="", max_length=500)
    version: int = Field(default=0, ge=0, lt=2**63,
                         description="The version that answered; 0: as the logged prediction says.")


class Told(_Request):
    outcomes: list[Outcome] = Field(default=[], max_length=10_000, examples=[[{"event_id": "e-1", "label": True}]])
    opinions: list[Opinion] = Field(default=[], max_length=10_000, examples=[[
        {"event_id": "e-1", "accepted": False, "reason": "This customer did buy.", "version": 3}]])

    def problems(self) -> list[Problem]:
        """What is wrong with it as a whole."""
        if not self.outcomes and not self.opinions:
            return [Problem("outcomes", 0, "nothing is told", "send outcomes, or opinions")]
        return [Problem(f"opinions[{place}]", 0, "an opinion has one of `accepted` and `score`", "send one of them")
                for place, one in enumerate(self.opinions) if (one.accepted is None) == (one.score is None)]


class Train(_Request):
    """One training run. What is left out is the Pipeline's."""

    kind: Literal["train", "fine_tune"] = Field(default="train", description="`fine_tune` starts from a version.")
    family: str = Field(default="", examples=["mlp"])
    parameters: dict[str, Any] = Field(default_factory=dict, examples=[{"epochs": 40}])
    search: dict[str, Any] = Field(default_factory=dict, examples=[{"trials": 20}],
                                   description="Look for parameters first, as `model.search` says it.")
    data_pipeline: str = Field(default="", description="Learn from this pipeline's rows; they must have the same form.")
    snapshot: str = Field(default="", pattern=r"^([0-9a-f]{64})?$",
                          description="Learn from this snapshot of the data pipeline, all of it unless `max_rows`.")
    parent_version: int = Field(default=0, ge=0, description="Version to fine-tune; 0: the champion.")
    parent_model: str = Field(default="", pattern=r"^([a-z0-9-]{1,40})?$",
                              description="Model `parent_version` is a version of; empty: this one.")
    transfer: dict[str, Any] = Field(default_factory=dict, examples=[{"freeze": ["layers.0.*"], "head": "replace"}],
                                     description="How a fine-tune goes on; as the Pipeline's `model.transfer`.")
    max_rows: int = Field(default=0, ge=0, description="Newest rows to learn from; 0: the Pipeline's window.")
    promote: bool = Field(default=True, description="False keeps a good candidate out of production until promoted.")
    priority: int = Field(default=0, ge=-100, le=100,
                          description="Higher goes first; a run gains one for each minute it waits.")
    command_id: str = Field(default="", max_length=128, pattern=r"^[A-Za-z0-9._-]*$",
                            description="Sent again, it starts nothing new.")


class Promote(_Request):
    version: int = Field(ge=1)
    note: str = Field(default="", max_length=500, description="Why; kept in the champions' history.")


class RollBack(_Request):
    from_version: int = Field(default=0, ge=0, description="Version to leave; 0: the champion.")
    note: str = Field(default="", max_length=500, description="Why; kept in the champions' history.")


_MANIFEST = schema(ModelManifest)["properties"]
_STATE = schema(ModelState, versions={"type": "array", "items": schema(
    ModelVersion, without=["manifest"], **_MANIFEST)})
_STATE_EXAMPLE = {
    "model": "phishing", "revision": 3, "champion": 2, "previous_champion": 1, "reason": "promoted",
    "changed_at": "2026-01-31T12:00:00Z", "versions": [{
        "version": 2, "status": "READY", "family": "logistic_regression", "metrics": {"accuracy": 0.91},
        "lineage": {"run_id": "run-1f0c", "parent_version": 1, "train_rows": 800}}]}
_RUN = schema(TrainingProgress, kind={"type": "string"}, reason={"type": "string"}, family={"type": "string"},
              issuer={"type": "string"}, priority={"type": "integer"}, cancel_requested={"type": "boolean"})
_RUN_EXAMPLE = {"run_id": "run-1f0c", "command_id": "request-77", "model": "phishing", "state": "SUCCEEDED",
                "epoch": 40, "epochs": 40, "metrics": {"accuracy": 0.91}, "version": 2, "rows": 1000}
_COURSE = {"title": "Course", "type": "object", "properties": {
    "run_id": {"type": "string"}, "points": {"type": "array", "items": schema(CoursePoint)}}}
_COURSE_EXAMPLE = {"run_id": "run-1f0c", "points": [{
    "epoch": 1, "at": "2026-01-01T09:00:00Z", "stage": "",
    "figures": {"training_loss": 0.61, "validation_loss": 0.55, "learning_rate": 0.05}}]}
_ASKED: Responses = {202: described("The command is durable; the trainer does it.", COMMAND, COMMAND_EXAMPLE)}
_PREDICTED: dict[str, Any] = {
    "title": "Prediction", "type": "object", "properties": {
        "model": {"type": "string"}, "version": {"type": "integer"}, "request_id": {"type": "string"},
        "rows": {"type": "array", "items": {"type": "object", "properties": {
            "number": {"type": "number"}, "label": {"type": "string"},
            "low": {"type": "number", "description": "Bound of `number`, where `serve.interval` is set."},
            "high": {"type": "number"},
            "probabilities": {"type": "object", "additionalProperties": {"type": "number"}},
            "top": {"type": "array", "description": "Items, best first.", "items": {
                "type": "object", "properties": {"item": {"type": "string"}, "score": {"type": "number"}}}},
            "values": {"type": "object", "description": "Expected return by action.",
                       "additionalProperties": {"type": "number"}},
            "score": {"type": "number", "description": "Above 1 the row is strange."},
            "attributions": {"type": "object", "description": "What each field did to the score; when asked for.",
                             "additionalProperties": {"type": "number"}},
            "attribution_parts": {
                "type": "object", "description": "By field, what the parts of an image, series or text did.",
                "additionalProperties": {"type": "object", "properties": {
                    "shape": {"type": "array", "items": {"type": "integer"}},
                    "values": {"type": "array", "items": {"type": "number"}}}}},
            "joined": schema(Joined), "error": schema(RowError)}}}}}
_IDS = {"type": "array", "items": {"type": "string"}}
_TAKEN: dict[str, Any] = {"title": "Taken", "type": "object", "properties": {
    "event_ids": {**_IDS, "description": "Of the outcomes."},
    "opinion_event_ids": {**_IDS, "description": "Of the opinions, where there were any."}}}


def model_view(state: ModelState) -> dict[str, Any]:
    """A model as it is shown: what the signed manifest says stands beside the version's status."""
    shown = plain(state)
    for version in shown["versions"]:
        version |= version.pop("manifest", {})
        del version["signature"]
    del shown["signature"]
    return shown


def run_view(run: Run) -> dict[str, Any]:
    command = plain(run.command)
    asked = {name: command[name] for name in ("kind", "reason", "family", "issuer", "priority")}
    return {**asked, **plain(run.progress), "cancel_requested": run.cancel_requested}


@router.get("/models", summary="List models", responses={
    200: described("All models, by name.", _STATE, [_STATE_EXAMPLE], many=True)})
async def list_all(gateway: TheGateway, _: Reads) -> Response:
    return answer([model_view(state) for state in gateway.models.all()])


@router.get("/models/{model}", summary="Read a model", responses={
    200: described("Its champion and kept versions.", _STATE, _STATE_EXAMPLE)})
async def get(model: str, gateway: TheGateway, _: Reads) -> Response:
    return answer(model_view(gateway.models.get(model)))


@router.post("/models/{model}/predict", summary="Predict rows by named fields", responses={
    200: described("One answer a row, in order, all by the same version.", _PREDICTED, {
        "model": "phishing", "version": 2, "request_id": "",
        "rows": [{"label": "true", "probabilities": {"false": 0.08, "true": 0.92}}]})})
async def predict(model: str, wanted: Predict, request: Request, gateway: TheGateway, _: Predicts) -> Response:
    """Ask the least loaded predictor; one that does not answer is replaced by another once."""
    if not wanted.rows and not wanted.entities:
        raise InvalidBody([Problem("rows", 0, "there is nothing to predict", "send rows, or name entities")])
    message = PredictRequest(model=model, version=wanted.version, request_id=wanted.request_id or request_id(),
                             explain=wanted.explain, entity=wanted.entity, entities=wanted.entities, each=wanted.each)
    try:
        for row in wanted.rows:
            json_format.ParseDict(row, message.rows.add())
    except (json_format.ParseError, ValueError) as error:
        raise Malformed(f"a row cannot be read: {error}", field="rows") from error
    response = await gateway.predictions.predict(request.headers["authorization"], message)
    # What another task would say is empty.
    rows = [{name: value for name, value in plain(row).items() if value not in ([], {})} for row in response.rows]
    return answer({"model": response.model, "version": response.version, "request_id": response.request_id,
                   "rows": rows})


@router.post("/models/{model}/feedback", summary="Say what became true, or is thought of answers", status_code=202,
             responses={
    202: described("All are durable on the labels topic.", _TAKEN, {"event_ids": ["e-1"]})})
async def feedback(model: str, wanted: Told, request: Request, gateway: TheGateway, _: Writes) -> Response:
    """All is taken, or nothing. The same again changes nothing; of opinions the first of a key on an event counts."""
    if problems := wanted.problems():
        raise InvalidBody(problems)
    message = FeedbackRequest(model=model)
    for told in wanted.outcomes:
        outcome = message.outcomes.add(event_id=told.event_id, entity=told.entity)
        # A bool is a number too, so it is looked for first.
        member = "flag" if isinstance(told.label, bool) else "category" if isinstance(told.label, str) else "number"
        setattr(outcome, member, told.label)
        for moment, into in ((told.at, outcome.at), (told.label_time, outcome.label_time)):
            if moment is not None:
                into.FromDatetime(moment)
    for one in wanted.opinions:
        opinion = message.opinions.add(event_id=one.event_id, entity=one.entity, accepted=one.accepted,
                                       score=one.score, reason=one.reason, version=one.version)
        if one.at is not None:
            opinion.at.FromDatetime(one.at)
    response = await gateway.predictions.feedback(request.headers["authorization"], message)
    taken = {"event_ids": list(response.event_ids)}
    if wanted.opinions:
        taken["opinion_event_ids"] = list(response.opinion_event_ids)
    return answer(taken, HTTPStatus.ACCEPTED)


@router.post("/models/{model}/train", summary="Train a model", status_code=202, responses=_ASKED)
async def train(model: str, wanted: Train, gateway: TheGateway, caller: Trains) -> Response:
    """Ask for one run over the pipeline's stored rows. Follow it at `/v1/runs/{run_id}`."""
    return asked(await gateway.models.train(caller, model, Training(**wanted.model_dump())))


@router.post("/models/{model}/promote", summary="Make a version champion", status_code=202, responses=_ASKED)
async def promote(model: str, wanted: Promote, gateway: TheGateway, caller: Trains) -> Response:
    return asked(await gateway.models.promote(caller, model, wanted.version, wanted.note))


@router.post("/models/{model}/rollback", summary="Return to the champion before", status_code=202, responses={
    202: described("The command is durable; its result appears at `/v1/recovery`.", COMMAND,
                   {"command_id": "operator-5c"})})
async def roll_back(model: str, wanted: RollBack, gateway: TheGateway, caller: Trains) -> Response:
    command = await gateway.commands.roll_back(caller, gateway.models.get(model), wanted.from_version, wanted.note)
    return answer({"command_id": command.command_id}, 202)


@runs_router.get("", summary="List runs", responses={200: described("Newest first.", _RUN, [_RUN_EXAMPLE], many=True)})
async def runs(gateway: TheGateway, _: Reads, limit: Count = 50,
               model: Annotated[str | None, Query(description="Only of this model.")] = None) -> Response:
    return answer([run_view(run) for run in await gateway.models.runs(model, limit)])


@runs_router.get("/{run_id}", summary="Read a run", responses={200: described("How far it is.", _RUN, _RUN_EXAMPLE)})
async def run(run_id: str, gateway: TheGateway, _: Reads) -> Response:
    return answer(run_view(await gateway.models.run(run_id)))


@runs_router.get("/{run_id}/course", summary="Read how a run went", responses={
    200: described("Its figures epoch by epoch, a thousand points at most; kept for every run.", _COURSE,
                   _COURSE_EXAMPLE)})
async def course(run_id: str, gateway: TheGateway, _: Reads) -> Response:
    told = await gateway.models.course(run_id)
    return answer({"run_id": run_id, "points": [plain(point) for point in told.points]})


@runs_router.post("/{run_id}/cancel", summary="Cancel a run", status_code=202, responses=_ASKED)
async def cancel(run_id: str, gateway: TheGateway, caller: Trains) -> Response:
    return asked(await gateway.models.cancel(caller, run_id))
