"""Data quality is told as it came and as it was rolled up, within the span that was asked for."""

from datetime import UTC, datetime, timedelta

import pytest

from lepton.bus.records import Outgoing
from lepton.contracts import codec
from lepton.contracts.pb.quality_pb2 import FieldQuality, QualityRollup, QualitySummary, ValueCount
from lepton.contracts.topics import Topic
from tests.harness.wait import apoll_until
from tests.unit.gateway.house import House
from tests.unit.gateway.test_access import assert_problem

NOON = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


def rollup(pipeline: str, interval: str, minutes: int, accepted: int) -> QualityRollup:
    start = NOON + timedelta(minutes=minutes)
    one = QualityRollup(key=f"{pipeline}/{interval}/{start:%Y-%m-%dT%H:%M:%SZ}", interval=interval)
    one.start.FromDatetime(start)
    one.summary.pipeline, one.summary.accepted = pipeline, accepted
    one.summary.interval_start.FromDatetime(start)
    one.summary.interval_end.FromDatetime(start + timedelta(minutes=1))
    one.summary.fields.append(FieldQuality(
        field="price", present=accepted, quantiles=[1, 2, 3, 4, 5, 6, 7], quantile_sketch=b"k", distinct_sketch=b"h",
        frequent_sketch=b"f", top=[ValueCount(value="red", count=3)]))
    one.applied.add(topic=f"lepton-quality-{pipeline}", offset=minutes)
    return one


async def write(house: House, *rollups: QualityRollup) -> None:
    writer = house.broker.writer("ingest")
    for one in rollups:
        await writer.send(Outgoing(Topic.QUALITY_ROLLUPS, codec.encode(Topic.QUALITY_ROLLUPS, one), one.key.encode()))


async def minutes(house: House, **asked: str | int) -> list[int]:
    answer = await house.admin.get("/v1/pipelines/shop/quality", params={"interval": "1m", **asked})
    return [one["accepted"] for one in answer.json()]


async def test_roll_ups_of_a_span_are_told_newest_first_without_their_sketches(house: House) -> None:
    await house.apply()
    await write(house, *(rollup("shop", "1m", minute, minute) for minute in (3, 1, 2, 4)),
                rollup("shop", "1h", 0, 10), rollup("shopping", "1m", 9, 99))

    async def followed() -> bool:
        return len(await minutes(house)) == 4

    await apoll_until(followed, "roll-ups followed")
    assert await minutes(house) == [4, 3, 2, 1]
    assert await minutes(house, limit=2) == [4, 3]
    assert await minutes(house, **{"from": "2026-01-31T12:02:00Z", "to": "2026-01-31T12:04:00"}) == [3, 2]
    assert await minutes(house, **{"from": "2026-01-31T14:04:00+02:00"}) == [4]
    (hour,) = (await house.admin.get("/v1/pipelines/shop/quality", params={"interval": "1h"})).json()
    (price,) = hour["fields"]
    assert (hour["interval_start"], price["quantiles"][3], price["top"]) == (
        "2026-01-31T12:00:00Z", 4, [{"value": "red", "count": 3}])
    assert not {"quantile_sketch", "distinct_sketch", "frequent_sketch"} & set(price)
    # The newest value of a minute is the one that counts.
    await write(house, rollup("shop", "1m", 4, 40))

    async def renewed() -> bool:
        return await minutes(house, limit=1) == [40]

    await apoll_until(renewed, "a roll-up replaced")


async def test_summaries_as_they_came_have_no_sketches_either(house: House) -> None:
    await house.apply()
    summary = QualitySummary(pipeline="shop", instance="ingest", accepted=1)
    summary.interval_start.FromDatetime(NOON)
    summary.interval_end.FromDatetime(NOON)
    summary.fields.append(FieldQuality(field="price", quantile_sketch=b"k"))
    await house.broker.writer("ingest").send(Outgoing("lepton-quality-shop", codec.encode(Topic.QUALITY, summary)))
    (told,) = (await house.admin.get("/v1/pipelines/shop/quality")).json()
    assert (told["instance"], "quantile_sketch" in told["fields"][0]) == ("ingest", False)


@pytest.mark.parametrize(("asked", "field"), [
    ({"interval": "1d"}, "interval"), ({"interval": "1m", "from": "yesterday"}, "from"),
    ({"interval": "1m", "from": "2026-02-01T00:00:00Z", "to": "2026-01-01T00:00:00Z"}, "to")])
async def test_a_span_that_cannot_be_is_refused(house: House, asked: dict[str, str], field: str) -> None:
    await house.apply()
    assert_problem(await house.admin.get("/v1/pipelines/shop/quality", params=asked), 422, field=field)


async def test_a_pipeline_that_is_not_there_has_no_quality(house: House) -> None:
    assert_problem(await house.admin.get("/v1/pipelines/none/quality", params={"interval": "1m"}), 404)
