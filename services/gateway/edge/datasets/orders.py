"""REST routes that ask for a change of stored rows: snapshots, corrections of labels, erasure; and their jobs."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from services.gateway.edge.datasets.described import ASKED, ERASED, JOB, JOB_EXAMPLE, LABELLED, LABELS
from services.gateway.edge.http.answers import answer, described
from services.gateway.edge.http.bodies import FORMS, body_of
from services.gateway.edge.http.callers import Administers, Count, Reads, TheGateway, Writes
from services.gateway.flow.datasets.orders import Job, Table, shown

router = APIRouter(prefix="/v1/datasets/{pipeline}", tags=["data sets"])

_TABLES: dict[str, Table] = {"text/csv": "csv", "application/vnd.apache.parquet": "parquet",
                             "application/vnd.apache.arrow.stream": "arrow"}


class TakeSnapshot(BaseModel):
    """What a snapshot holds on to."""

    model_config = ConfigDict(extra="forbid")

    label_until: AwareDatetime | None = Field(default=None, examples=["2026-01-31T00:00:00Z"],
                                              description="Labels of a later time do not count.")
    command_id: str = Field(default="", max_length=128, pattern=r"^[A-Za-z0-9._-]*$",
                            description="Sent again, it starts nothing new.")


@router.post("/snapshots", summary="Take a snapshot", status_code=202, responses=ASKED)
async def take_snapshot(pipeline: str, gateway: TheGateway, caller: Writes,
                        wanted: TakeSnapshot | None = None) -> Response:
    """Name the rows that are stored now, for good. The same rows have the same id, whoever takes them.

    A snapshot outlives retention: its rows stay until it is deleted.
    """
    wanted = wanted or TakeSnapshot()
    until: datetime | None = wanted.label_until
    return _asked(await gateway.orders.snapshot(caller, pipeline, until, wanted.command_id))


@router.delete("/snapshots/{snapshot}", summary="Delete a snapshot", status_code=202, responses=ASKED)
async def drop_snapshot(pipeline: str, snapshot: str, gateway: TheGateway, caller: Administers) -> Response:
    """Forget a snapshot; rows that only it held are gone."""
    return _asked(await gateway.orders.drop_snapshot(caller, pipeline, snapshot))


@router.post("/labels", summary="Correct labels", status_code=202, openapi_extra=LABELS, responses=LABELLED)
async def label(pipeline: str, request: Request, gateway: TheGateway, caller: Writes) -> Response:
    """Import corrections: late labels, of which the newest of an event counts. All are taken, or none."""
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    kind = _TABLES.get(media)
    taken = await gateway.orders.label(caller, pipeline, (kind, await request.body()) if kind else
                                       await body_of(request, FORMS))
    return answer({"accepted": len(taken)}, 202)


@router.delete("/entities/{entity:path}", summary="Erase an entity", status_code=202, responses=ERASED)
async def erase(pipeline: str, entity: str, gateway: TheGateway, caller: Administers, dry_run: Annotated[bool, Query(
        description="Only count what would be erased.")] = False) -> Response:
    """Take a person's rows and labels out of every segment and snapshot of the pipeline, in all generations.

    Rows still on the log do not come back; the log itself forgets them by its retention. A model that learnt from them
    is as it is until it is trained again.
    """
    if dry_run:
        return answer({"dry_run": True, **await gateway.datasets.would_erase(pipeline, entity)})
    job, key = await gateway.orders.erase(caller, pipeline, entity)
    return answer({**shown(job), "entity_key": key}, 202)


@router.get("/jobs", summary="List jobs", responses={200: described("Newest first.", JOB, [JOB_EXAMPLE], many=True)})
async def jobs(pipeline: str, gateway: TheGateway, _: Reads, limit: Count = 20) -> Response:
    return answer([shown(one) for one in await gateway.orders.jobs(pipeline, limit)])


@router.get("/jobs/{job}", summary="Read a job", responses={200: described("How far it is.", JOB, JOB_EXAMPLE)})
async def job_of(pipeline: str, job: str, gateway: TheGateway, _: Reads) -> Response:
    return answer(shown(await gateway.orders.job(pipeline, job)))


def _asked(job: Job) -> Response:
    return answer(shown(job), 202)
