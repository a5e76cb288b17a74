"""REST routes of uploads: a file of rows sent in pieces, from wherever it was left."""

import re
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from lepton.errors import Invalid
from services.gateway.edge.errors import Malformed
from services.gateway.edge.http.answers import answer, body, described, problem
from services.gateway.edge.http.callers import Count, Reads, TheGateway, Writes
from services.gateway.flow.intake.uploads import NewUpload, Upload

router = APIRouter(prefix="/v1/pipelines/{pipeline}/uploads", tags=["files"])

_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")
_NAME = r"^[^\x00-\x1f\x7f/\\]{1,200}$"


class File(BaseModel):
    """A file as its sender describes it."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=_NAME, examples=["people.csv"], description="Shown with each of its rows.")
    format: str = Field(examples=["csv"], description="csv, jsonl or parquet")
    size: int = Field(ge=1, le=2**53, examples=[1048576], description="Bytes of the whole file.")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", examples=["ab" * 32], description="Of the whole file.")
    delimiter: str = Field(default=",", pattern=r'^[^\x00-\x08\x0a-\x1f\x7f"A-Za-z0-9]$', description="Of a CSV file.")


_VIEW: dict[str, Any] = {
    "title": "Upload", "type": "object", "properties": {
        "id": {"type": "string"}, "pipeline": {"type": "string"}, "generation": {"type": "integer"},
        "name": {"type": "string"}, "format": {"type": "string"}, "size": {"type": "integer"},
        "sha256": {"type": "string"},
        "offset": {"type": "integer", "description": "The next byte wanted."},
        "rows": {"type": "integer", "description": "Rows that are durable, as events or as dead letters."},
        "refused": {"type": "integer", "description": "Those of them that could not be an event at all."},
        "total_rows": {"type": ["integer", "null"], "description": "Of a Parquet file that is here whole."},
        "ignored_columns": {"type": "array", "items": {"type": "string"}},
        "done": {"type": "boolean"}}}
_EXAMPLE = {"id": "9f2c4e", "pipeline": "shop", "generation": 1, "name": "people.csv", "format": "csv",
            "size": 1048576, "sha256": "ab" * 32, "offset": 524288, "rows": 2600, "refused": 1, "total_rows": None,
            "ignored_columns": ["remark"], "done": False}
_BYTES = body("The next bytes of the file; the last of them may end inside a row.",
              {"application/octet-stream": ({"type": "string", "format": "binary"}, "id,price\n1,2.5\n")})
_WRONG = problem("These are not the next bytes; `offset` says which are.", title="Conflict", status=409,
                 detail="the next byte wanted is number 524288", field="offset", offset=524288)
Offset = Annotated[int | None, Query(ge=0, description="Where in the file the body begins; or send Content-Range.")]


@router.post("", summary="Begin an upload", responses={
    200: described("How far this very file has come; 0 when it is new.", _VIEW, {**_EXAMPLE, "offset": 0, "rows": 0})})
async def begin(pipeline: str, file: File, gateway: TheGateway, caller: Writes) -> Response:
    """Announce a file. The same file again, under any name, goes on where it was left, or is done already."""
    wanted = NewUpload(file.name, file.format, file.size, file.sha256, file.delimiter)
    return answer(_shown(await gateway.uploads.begin(caller, pipeline, wanted)))


@router.get("", summary="List uploads", responses={
    200: described("Newest first.", _VIEW, [_EXAMPLE], many=True)})
async def list_all(pipeline: str, gateway: TheGateway, _: Reads, limit: Count = 50) -> Response:
    return answer([_shown(upload) for upload in await gateway.uploads.list(pipeline, limit)])


@router.get("/{upload}", summary="Read an upload", responses={
    200: described("How far the file has come.", _VIEW, _EXAMPLE)})
async def get(pipeline: str, upload: str, gateway: TheGateway, _: Reads) -> Response:
    return answer(_shown(await gateway.uploads.get(pipeline, upload)))


_APPEND: dict[str, Any] = {"summary": "Send the next bytes", "openapi_extra": _BYTES, "responses": {
    200: described("The rows in these bytes are durable; go on from `offset` until `done`.", _VIEW, _EXAMPLE),
    409: _WRONG}}


@router.patch("/{upload}", **_APPEND)
async def append(pipeline: str, upload: str, request: Request, gateway: TheGateway, _: Writes,
                 offset: Offset = None) -> Response:
    """Send bytes from `offset` on. A request that got no answer can be sent again: no row counts twice.

    A Parquet file is read once it is whole; then send empty bodies at the end of the file until it is done.
    """
    data = await request.body()
    begin_at = _offset(offset, request.headers.get("content-range"), len(data))
    return answer(_shown(await gateway.uploads.append(pipeline, upload, begin_at, data)))


@router.put("/{upload}", **_APPEND)
async def put(pipeline: str, upload: str, request: Request, gateway: TheGateway, caller: Writes,
              offset: Offset = None) -> Response:
    """The same as PATCH, for clients that cannot send that."""
    return await append(pipeline, upload, request, gateway, caller, offset)


def _offset(asked: int | None, content_range: str | None, length: int) -> int:
    """Raises Malformed, Invalid when neither says where the bytes belong, or they say different things."""
    if content_range is None:
        if asked is None:
            raise Invalid("it is not said where in the file these bytes belong", field="offset",
                          remedy="add ?offset=N, or the header Content-Range: bytes FIRST-LAST/SIZE")
        return asked
    told = _RANGE.fullmatch(content_range.strip())
    if told is None:
        raise Malformed(f"{content_range!r} is no range", field="content-range", remedy="write bytes FIRST-LAST/SIZE")
    first, last = int(told[1]), int(told[2])
    if last - first + 1 != length or (asked is not None and asked != first):
        raise Invalid(f"the range holds {last - first + 1} bytes from {first}, the body {length}",
                      field="content-range")
    return first


def _shown(upload: Upload) -> dict[str, Any]:
    return {"id": upload.id, "pipeline": upload.pipeline, "generation": upload.generation, "name": upload.name,
            "format": upload.format, "size": upload.size, "sha256": upload.sha256, "offset": upload.offset,
            "rows": upload.rows, "refused": upload.refused,
            "total_rows": upload.total_rows if upload.format == "parquet" and upload.total_rows else None,
            "ignored_columns": list(upload.ignored), "done": upload.done}
