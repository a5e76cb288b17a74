"""REST route of the audit log: its records, as they are kept."""

import asyncio
import base64
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from google.protobuf.message import DecodeError

from services.gateway.edge.http.answers import answer, described, plain, schema
from services.gateway.edge.http.callers import Administers, TheGateway
from services.gateway.flow.audit import AuditRecord, Page

router = APIRouter(prefix="/v1/audit", tags=["operations"])

_RECORD = schema(AuditRecord, offset={"type": "integer"}, key={"type": "string", "description": "Of the record."},
                 record={"type": "string", "format": "byte", "description": "All of it, as the log has it."})
_PAGE: dict[str, Any] = {
    "title": "AuditPage", "type": "object", "properties": {
        "begin": {"type": "integer", "description": "Offset of the oldest record that is kept."},
        "end": {"type": "integer", "description": "Offset after the newest."},
        "next": {"type": "integer", "description": "Where the next page begins; `end` after the last."},
        "records": {"type": "array", "items": _RECORD}}}
_EXAMPLE = {"begin": 0, "end": 1, "next": 1, "records": [{
    "offset": 0, "key": "gateway-0", "writer": "gateway-0", "sequence": 1, "previous_hash": "",
    "at": "2026-01-31T12:00:00Z", "actor": "lk_0123456789abcdef", "action": "pipeline.apply", "object": "phishing",
    "detail": "g1 9f86d081884c7d65", "record": "CglnYXRld2F5LTAQAQ=="}]}

From = Annotated[int | None, Query(alias="from", ge=0, description="Offset of the first; without it, the newest.")]
Most = Annotated[int, Query(ge=1, le=5000, description="How many at most, in the order of the log.")]


@router.get("", summary="Read the audit log", responses={
    200: described("Who did what; each record with the hash of its writer's record before.", _PAGE, _EXAMPLE)})
async def read_audit(gateway: TheGateway, _: Administers, start: From = None, limit: Most = 1000) -> Response:
    """`record` is what the chain's hashes are computed of: SHA-256 of its bytes. `lepton audit verify` does."""
    page = await gateway.audit.page(start, limit)
    # Thousands of records take too long for a loop that others wait for.
    return await asyncio.to_thread(_answered, page)


def _answered(page: Page) -> Response:
    return answer({"begin": page.begin, "end": page.end, "next": page.next, "records": [
        {"offset": one.offset, "key": (one.key or b"").decode("utf-8", "replace"), **_shown(one.value or b"")}
        for one in page.records]})


def _shown(value: bytes) -> dict[str, Any]:
    whole = {"record": base64.b64encode(value).decode()}
    try:
        return {**plain(AuditRecord.FromString(value)), **whole}
    except DecodeError:
        return whole
