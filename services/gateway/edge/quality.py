"""REST routes of data quality: summaries as they come, and roll-ups by minute and hour."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from lepton.contracts.pb.quality_pb2 import QualitySummary
from services.gateway.edge.http.answers import answer, described, plain, schema
from services.gateway.edge.http.callers import Count, Reads, TheGateway
from services.gateway.flow.quality import Interval

router = APIRouter(prefix="/v1/pipelines/{pipeline}", tags=["data"])

_INTERVAL = Query(description="Roll-ups of all instances by minute or hour; left out, each instance's own summaries.")
_FROM = Query(alias="from", description="With `interval`: those that began then or later (RFC 3339).")
_TO = Query(description="With `interval`: those that began before.")
_SKETCHES = ("quantile_sketch", "distinct_sketch", "frequent_sketch")
_EXAMPLE = {"pipeline": "phishing", "accepted": 98, "rejected": 2, "rejections": [{"code": "missing", "count": 2}],
            "duplicates": 0, "late": 1, "fields": [
                {"field": "age_of_domain", "present": 98, "missing": 0, "quantiles": [3, 9, 60, 210, 900, 2900, 5200]}]}


def _shape() -> dict[str, Any]:
    shape = schema(QualitySummary)
    members = shape["properties"]["fields"]["items"]["properties"]
    shape["properties"]["fields"]["items"]["properties"] = {
        name: one for name, one in members.items() if name not in _SKETCHES}
    return shape


@router.get("/quality", summary="Read data quality", responses={
    200: described("Newest first; counts, by field and by source.", _shape(), [_EXAMPLE], many=True)})
async def quality(pipeline: str, gateway: TheGateway, _: Reads, limit: Count = 20,
                  interval: Annotated[Interval | None, _INTERVAL] = None,
                  begin: Annotated[datetime | None, _FROM] = None,
                  to: Annotated[datetime | None, _TO] = None) -> Response:
    """What ingest accepted, refused, repaired and missed, with quantiles, histograms and frequent values by field.

    `quantiles` are those at 0.01, 0.05, 0.25, 0.5, 0.75, 0.95 and 0.99.
    """
    if interval is None:
        found = await gateway.quality.summaries(pipeline, limit)
    else:
        found = await gateway.quality.rolled_up(pipeline, interval, begin, to, limit)
    return answer([_view(summary) for summary in found])


def _view(summary: QualitySummary) -> dict[str, Any]:
    view = plain(summary)
    for one in view["fields"]:
        for name in _SKETCHES:
            del one[name]
    return view
