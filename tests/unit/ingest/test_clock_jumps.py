"""The wall clock of the machine jumps while ingest works: rows, windows of time and health do not follow it."""

from datetime import datetime, timedelta

import pytest

from lepton.clock import SystemClock
from lepton.contracts.pb.quality_pb2 import QualitySummary
from lepton.contracts.topics import Topic
from tests.unit.ingest.house import House, accepted, living, until
from tests.unit.ingest.samples import order, pipeline


class JumpingClock(SystemClock):
    """A machine whose wall clock was set; durations go on as they do on a machine."""

    def __init__(self) -> None:
        self.off = timedelta()

    def now(self) -> datetime:
        return super().now() + self.off


@pytest.mark.parametrize("off", [timedelta(days=-400), timedelta(days=400)], ids=["back", "ahead"])
async def test_a_clock_that_jumps_changes_no_row_and_stops_nothing(house: House, off: timedelta) -> None:
    clock = JumpingClock()
    async with living(house, clock=clock) as service:
        await house.apply(pipeline(more="clean: {late: {after: 1h, action: quarantine}}\n"))
        await house.send(*(order(number) for number in range(50)))
        before = list(await accepted(house, 50))
        clock.off = off
        await house.send(*(order(number) for number in range(25, 100)))
        rows = await accepted(house, 100)
        assert [row["_event_id"] for row in rows] == [f"o-{number}" for number in range(100)]
        assert list(rows)[:50] == before
        assert not await house.letters()

        async def counted() -> list[QualitySummary]:
            found = [QualitySummary.FromString(one.value or b"") for one in await house.read(Topic.QUALITY)]
            return found if sum(one.accepted for one in found) >= 100 else []

        summaries = await until(counted, "summaries of all rows")
        assert sum(one.accepted for one in summaries) == 100
        assert sum(one.duplicates for one in summaries) == 25
        assert service.health.ready
