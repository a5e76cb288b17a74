"""REST routes that read data sets: which there are, their statistics, their rows, their splits."""

import logging
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse

from lepton.errors import Invalid, LeptonError
from services.gateway.edge.datasets.described import (
    DATASET,
    DATASET_EXAMPLE,
    PROFILE,
    PROFILE_EXAMPLE,
    ROWS,
    SNAPSHOT,
    SNAPSHOT_EXAMPLE,
    SPLIT,
    SPLIT_EXAMPLE,
)
from services.gateway.edge.http.answers import answer, described
from services.gateway.edge.http.callers import Count, Reads, TheGateway
from services.gateway.flow.datasets.datasets import MEDIA_TYPES, Asked, By, Kind, Part, Split, Stream

router = APIRouter(prefix="/v1/datasets", tags=["data sets"])

log = logging.getLogger(__name__)

_MICROSECONDS = 1_000_000
SnapshotId = Annotated[str, Query(pattern=r"^([0-9a-f]{64})?$", description="Read this snapshot; left out: what is "
                                                                             "stored now.")]
Columns = Annotated[str, Query(max_length=200_000, description="Names with commas between them; all but technical ones "
                                                               "when left out.")]
Labelled = Annotated[bool, Query(description="Only rows whose label is known.")]


def split_of(
    by: Annotated[By, Query(description="What decides a row's part. By entity, no entity is in two parts.")] = "event",
    seed: Annotated[int, Query(ge=0, lt=2**63, description="Another seed, another split.")] = 0,
    shares: Annotated[str, Query(description="Of train, validation and test.")] = "0.8,0.1,0.1",
    cuts: Annotated[str, Query(description="By time: epoch seconds at which validation and test begin; found from the "
                                           "shares when left out.")] = "",
) -> Split:
    """Raises Invalid."""
    first, *rest = _numbers(shares, "shares")
    if len(rest) != 2:
        raise Invalid("shares are three numbers", field="shares", remedy="write for example 0.8,0.1,0.1")
    cut = [round(one * _MICROSECONDS) for one in _numbers(cuts, "cuts")] if cuts else []
    if cut and (len(cut) != 2 or cut[0] > cut[1] or by != "time"):
        raise Invalid("cuts are two times, the earlier first, and go with by=time", field="cuts")
    return Split(by, seed, (first, rest[0], rest[1]), (cut[0], cut[1]) if cut else None)


def _numbers(text: str, name: str) -> list[float]:
    try:
        return [float(one) for one in text.split(",")]
    except ValueError as error:
        raise Invalid(f"{text!r} are no numbers", field=name) from error


TheSplit = Annotated[Split, Depends(split_of)]


@router.get("", summary="List data sets", responses={
    200: described("One a pipeline, by name.", DATASET, [DATASET_EXAMPLE], many=True)})
async def all_of_them(gateway: TheGateway, _: Reads) -> Response:
    return answer(await gateway.datasets.all())


@router.get("/{pipeline}", summary="Read a data set", responses={
    200: described("What is stored of the pipeline.", DATASET, DATASET_EXAMPLE)})
async def one(pipeline: str, gateway: TheGateway, _: Reads) -> Response:
    return answer(await gateway.datasets.get(pipeline))


@router.get("/{pipeline}/profile", summary="Profile a data set", responses={
    200: described("Statistics of every field.", PROFILE, PROFILE_EXAMPLE)})
async def profile(pipeline: str, gateway: TheGateway, _: Reads, snapshot: SnapshotId = "", columns: Columns = "",
                  labelled: Labelled = False) -> Response:
    """One pass over the rows, in bounded memory; it takes as long as reading them."""
    return answer(await gateway.datasets.profile(pipeline, _asked(snapshot, columns, labelled)))


@router.get("/{pipeline}/split", summary="Split a data set", responses={
    200: described("How many rows each part has. Read a part with `rows`, the same split and `part`.", SPLIT,
                   SPLIT_EXAMPLE)})
async def split(pipeline: str, gateway: TheGateway, _: Reads, how: TheSplit, snapshot: SnapshotId = "",
                labelled: Labelled = False) -> Response:
    """Parts are decided by a stated hash and a seed, or by time: nothing is stored, and nothing is left to chance.

    By time the rows must stand still, so it takes a snapshot, or `cuts`.
    """
    return answer(await gateway.datasets.split(pipeline, _asked(snapshot, "", labelled), how))


@router.get("/{pipeline}/rows", summary="Read rows of a data set", responses=ROWS)
async def rows(pipeline: str, request: Request, gateway: TheGateway, _: Reads, how: TheSplit,
               snapshot: SnapshotId = "", columns: Columns = "", labelled: Labelled = False,
               part: Annotated[Part | None, Query(description="Only this part of the split.")] = None,
               limit: Annotated[int, Query(ge=0, description="How many at most; 0: all.")] = 0,
               format_: Annotated[Literal["arrow", "parquet", "ndjson"] | None, Query(
                   alias="format", description="Left out, the `Accept` header says.")] = None) -> Response:
    """Accepted rows, each with its newest label, partition after partition in the order they were accepted.

    `_label` and `_label_time` are null while nothing is known. Streamed in bounded memory, however many rows.
    """
    whole = _asked(snapshot, columns, labelled)
    asked = Asked(whole.snapshot, whole.columns, labelled, how if part else None, part, limit)
    stream = await gateway.datasets.rows(pipeline, asked, format_ or _accepted(request.headers.get("accept", "")))
    headers = {"x-lepton-snapshot": stream.snapshot["id"]} if stream.snapshot else {}
    return StreamingResponse(_to_the_end(stream), media_type=stream.media_type, headers=headers)


@router.get("/{pipeline}/snapshots", summary="List snapshots", responses={
    200: described("Newest first.", SNAPSHOT, [SNAPSHOT_EXAMPLE], many=True)})
async def snapshots(pipeline: str, gateway: TheGateway, _: Reads, limit: Count = 20) -> Response:
    return answer(await gateway.datasets.snapshots(pipeline, limit))


@router.get("/{pipeline}/snapshots/{snapshot}", summary="Read a snapshot", responses={
    200: described("It, and what it is made of.", SNAPSHOT, SNAPSHOT_EXAMPLE)})
async def snapshot_of(pipeline: str, snapshot: str, gateway: TheGateway, _: Reads) -> Response:
    return answer(await gateway.datasets.snapshot(pipeline, snapshot))


async def _to_the_end(stream: Stream) -> AsyncIterator[bytes]:
    """The chunks. What goes wrong now has no status any more: the connection breaks off, and the log says why."""
    try:
        async with aclosing(stream.chunks) as chunks:
            async for chunk in chunks:
                yield chunk
    except LeptonError as error:
        log.error("an answer breaks off: %s", error)
        raise


def _asked(snapshot: str, columns: str, labelled: bool) -> Asked:
    return Asked(snapshot, tuple(name for name in columns.split(",") if name), labelled)


def _accepted(header: str) -> Kind:
    media = {one.partition(";")[0].strip().lower() for one in header.split(",")}
    return next((kind for kind, name in MEDIA_TYPES.items() if name in media), "arrow")
