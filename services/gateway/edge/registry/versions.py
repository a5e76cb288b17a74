"""REST routes of versions that exist: their tags, their end, the champions' history, and removal of what is over."""

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from lepton.contracts.pb.models_pb2 import ChampionTerm
from services.gateway.edge.http.answers import answer, described, plain, schema
from services.gateway.edge.http.callers import Reads, TheGateway, Trains
from services.gateway.edge.registry.ordered import ASKED, asked

router = APIRouter(prefix="/v1/models/{model}", tags=["models"])

_TERM_EXAMPLE = {"version": 2, "since": "2026-01-31T12:00:00Z", "reason": "published", "by": "run-1f0c",
                 "note": "accuracy 0.93, the champion's on the same rows 0.91", "sha256": "ab" * 32}


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Tags(_Request):
    tags: dict[str, str] = Field(min_length=1, max_length=16, examples=[{"stage": "stable"}],
                                 description="An empty value takes the tag away.")


class Retire(_Request):
    note: str = Field(default="", max_length=500, description="Why.")


@router.get("/champions", summary="Who was in production when, and why", responses={
    200: described("Oldest first; the last one has no end while it answers.", schema(ChampionTerm), [_TERM_EXAMPLE],
                   many=True)})
async def champions(model: str, gateway: TheGateway, _: Reads) -> Response:
    return answer([plain(term) for term in gateway.models.get(model).champions])


@router.post("/versions/{version}/tags", summary="Tag a version", status_code=202, responses=ASKED)
async def tag(model: str, version: int, wanted: Tags, gateway: TheGateway, caller: Trains) -> Response:
    """A version with tags is kept however old it is."""
    return asked(await gateway.models.tag(caller, model, version, wanted.tags))


@router.post("/versions/{version}/retire", summary="Retire a version", status_code=202, responses=ASKED)
async def retire(model: str, version: int, gateway: TheGateway, caller: Trains, wanted: Retire | None = None,
                 ) -> Response:
    """Take it out of use for good; the champion cannot be retired."""
    return asked(await gateway.models.retire(caller, model, version, wanted.note if wanted else ""))


@router.post("/collect", summary="Remove what nothing refers to", status_code=202, responses=ASKED)
async def collect(model: str, gateway: TheGateway, caller: Trains) -> Response:
    """Forget retired versions, and remove files of models that no version and no run names.

    The run's metrics say how many versions, files and bytes went. The trainer does the same by itself every hour.
    """
    return asked(await gateway.models.collect(caller, model))
