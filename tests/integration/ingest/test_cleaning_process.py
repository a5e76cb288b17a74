"""The real process killed: what cleaning learnt (statistics, watermark, contents, last values) the next one knows."""

import signal
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lepton.contracts import codec
from lepton.contracts.pb.quality_pb2 import QualitySummary
from lepton.contracts.topics import Topic
from tests.integration.ingest.place import DRAIN_S, Place, ended, rows
from tests.unit.ingest.house import until
from tests.unit.ingest.samples import order, pipeline

pytestmark = [pytest.mark.kafka, pytest.mark.mongo, pytest.mark.process]

CLEAN = """\
clean:
  missing: {weight: forward_fill}
  outliers: {method: iqr, action: quarantine}
  duplicates: {content: true}
  late: {after: 30s, action: quarantine}
"""
LEARNT = 620
START = datetime(2026, 6, 1, tzinfo=UTC)


def ordinary(number: int, **members: Any) -> dict[str, Any]:
    return order(number, customer=f"c-{number % 50}", at=(START + timedelta(seconds=number)).isoformat(),
                 price=40.0 + number % 20, weight=number % 50 / 10 + 1, **members)


async def test_a_killed_process_leaves_what_it_had_learnt(place: Place) -> None:
    house = place.house
    spec = pipeline(("name: shop", f"name: {house.name}"), more=CLEAN)
    await house.apply(spec, partitions=1)
    with place.ingest("first") as process:
        for start in range(0, LEARNT, 40):
            batch = [ordinary(number) for number in range(start, min(start + 40, LEARNT))]
            # Outlying too, but before anything was frozen; a partition knows what is usual after 500 rows.
            batch[0] |= {"price": 900.0} if start == 0 else {}
            await house.send(*batch)
        assert len(await rows(place, LEARNT)) == LEARNT
        process.send_signal(signal.SIGKILL)
        assert await ended(process, 10) == -signal.SIGKILL

    with place.ingest("second") as process:
        outlier = ordinary(LEARNT) | {"price": 900.0}
        late = ordinary(LEARNT + 1) | {"at": (START + timedelta(seconds=LEARNT - 60)).isoformat()}
        repeated = ordinary(LEARNT - 5) | {"order": "another id"}
        gap = {name: value for name, value in ordinary(LEARNT + 4).items() if name != "weight"}
        await house.send(outlier, late, repeated, ordinary(LEARNT - 5), gap)
        found = await rows(place, LEARNT + 1)
        assert found[-1]["_event_id"] == f"o-{LEARNT + 4}"
        assert found[-1]["weight"] == pytest.approx((LEARNT + 4) % 50 / 10 + 1)
        assert found[-1]["_repairs"] == [{"field": 1, "what": "forward_fill", "before": ""}]
        assert [row["_outliers"] for row in found] == [[]] * (LEARNT + 1)

        async def letters() -> list[str]:
            told = [one["reason"].partition(":")[0] for one in await house.letters()]
            return sorted(told) if len(told) >= 3 else []

        assert await until(letters, f"three dead letters; it said: {place.said()}", 60) == [
            "duplicate_content", "late", "outlier"]

        async def counted() -> bool:
            told = [codec.decode_as(Topic.QUALITY, QualitySummary, one.value or b"")
                    for one in await house.read(Topic.QUALITY)]
            return [sum(getattr(one, what) for one in told)
                    for what in ("content_duplicates", "late", "duplicates")] == [1, 1, 1]

        await until(counted, f"summaries that count one of each; it said: {place.said()}", 60)
        process.send_signal(signal.SIGTERM)
        assert await ended(process, DRAIN_S + 4) == 0, place.said()
