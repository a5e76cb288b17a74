"""Generations of a pipeline close together: whatever waits on any former one's topics counts once, with its time."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from lepton.bus.memory import MemoryBroker
from lepton.clock import FakeClock
from lepton.contracts import codec, features, topics
from lepton.contracts.pb.outcomes_pb2 import Outcome
from lepton.contracts.topics import Topic
from lepton.store.segments import Segments
from tests.unit.ingest.house import SHOP, House, living, until
from tests.unit.ingest.samples import order, pipeline

STRUCTURED = (("content-type", b"application/cloudevents+json"),)


async def ids(house: House) -> list[str]:
    """Of every accepted row, in all three generations."""
    there = await house.broker.list_topics()
    return sorted([str(row["_event_id"]) for generation in (1, 2, 3)
                   if topics.name(Topic.FEATURES, SHOP, generation) in there for row in await house.rows(generation)])


async def stored(house: House) -> list[str]:
    return sorted([name for generation in (1, 2, 3)
                   async for segment in Segments(house.database).read("features", SHOP, generation)
                   for name in features.decode_table(segment.data).column("_event_id").to_pylist()])


async def all_there(house: House, read: Any, *numbers: int) -> None:
    wanted = sorted(f"o-{number}" for number in numbers)

    async def enough() -> bool:
        return len(await read(house)) >= len(wanted)

    await until(enough, f"{len(wanted)} rows of {read.__name__}")
    assert await read(house) == wanted


async def test_two_moves_close_together_leave_nothing_on_any_former_topic(house: House) -> None:
    await house.apply(pipeline())
    async with living(house, segment_interval_s=3600.0):
        await house.send(order(1), order(2))
        await all_there(house, ids, 1, 2)
    assert await stored(house) == []
    await house.send(order(3), partition=1)
    # Nothing ran for the second generation: the third finds all that the first one left.
    await house.apply(pipeline(), version=2, generation=2, partitions=3, rows_since=1)
    await house.send(order(4), generation=2, partition=2)
    await house.apply(pipeline(), version=3, generation=3, partitions=4, rows_since=1)
    async with living(house):
        await all_there(house, ids, 1, 2, 3, 4)
        await all_there(house, stored, 1, 2, 3, 4)
        # Who has heard of neither move still sends to the first topic.
        await house.send(order(5), generation=1)
        await all_there(house, ids, 1, 2, 3, 4, 5)
        await all_there(house, stored, 1, 2, 3, 4, 5)
        assert {row["_event_id"] for row in await house.rows(3)} == {"o-3", "o-4", "o-5"}


async def test_what_is_carried_over_keeps_the_time_it_came_at(tmp_path: Path) -> None:
    clock = FakeClock(datetime.now(UTC) - timedelta(days=1))
    came = clock.now()
    house = House(tmp_path, broker=MemoryBroker(clock))
    await house.furnish()
    spec = pipeline(("  time: at\n", ""))
    await house.apply(spec)
    bare = {"order": "o-1", "customer": "c-1", "price": 1.0}
    event = {"specversion": "1.0", "id": "o-2", "source": "till", "type": "sold", "data": bare | {"order": "o-2"}}
    await house.send(bare)
    await house.send(event, headers=STRUCTURED)
    await house.send({"event_id": "o-1", "label": True}, topic=Topic.LABELS)
    await clock.advance(3600.0)
    await house.apply(spec, version=2, generation=2, partitions=3, rows_since=1)
    await house.send(bare | {"order": "o-3"}, generation=2)
    async with living(house):
        await all_there(house, ids, 1, 2, 3)

        async def labelled() -> bool:
            return bool(await house.read(Topic.OUTCOMES, 2))

        await until(labelled, "the label")
    times = {row["_event_id"]: row["_occurred_at"] for row in await house.rows(2)}
    then = came.replace(microsecond=came.microsecond // 1000 * 1000)
    assert times == {"o-1": then, "o-2": then, "o-3": then + timedelta(seconds=3600)}
    (label,) = [codec.decode_as(Topic.OUTCOMES, Outcome, one.value or b"") for one in
                await house.read(Topic.OUTCOMES, 2)]
    assert label.label_time.ToMilliseconds() == int(came.timestamp() * 1000)
