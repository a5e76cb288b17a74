"""The real process over the real broker and database: it does its work, stops in good order, and survives kill -9."""

import asyncio
import signal
from collections import Counter
from typing import Any

import pytest

from lepton.contracts import features
from lepton.contracts.topics import Topic
from lepton.store.segments import Segments
from tests.integration.ingest.place import DRAIN_S, Place, ended, rows
from tests.unit.ingest.house import until
from tests.unit.ingest.samples import order, pipeline

pytestmark = [pytest.mark.kafka, pytest.mark.mongo, pytest.mark.process]


async def stored(place: Place, stream: str) -> list[str]:
    """Event ids in the segments of a stream."""
    column = "_event_id" if stream == "features" else "event_id"
    found: list[str] = []
    async for segment in Segments(place.house.database).read(stream, place.house.name, 1):
        found += features.decode_table(segment.data).column(column).to_pylist()
    return found


async def all_stored(place: Place, stream: str, count: int) -> list[str]:
    async def enough() -> list[str]:
        found = await stored(place, stream)
        return found if len(found) >= count else []

    found: list[str] = await until(enough, f"{count} {stream} in segments; it said: {place.said()}", 60)
    return found


def spec(place: Place) -> Any:
    return pipeline(("name: shop", f"name: {place.house.name}"))


async def test_events_and_labels_go_all_the_way_and_sigterm_ends_it_in_good_order(place: Place) -> None:
    house = place.house
    await house.apply(spec(place))
    with place.ingest() as process:
        await house.send(order(1, items=3), b"junk", order(2), order(1), headers=(("ce_source", b"till"),))
        await house.send({"event_id": "o-1", "label": True}, topic=Topic.LABELS)
        assert sorted(row["_event_id"] for row in await rows(place, 2)) == ["o-1", "o-2"]
        assert sorted(await all_stored(place, "features", 2)) == ["o-1", "o-2"]
        assert await all_stored(place, "outcomes", 1) == ["o-1"]
        (letter,) = await house.letters()
        assert letter["reason"].startswith("malformed: not JSON")
        assert letter["place"].startswith(f"lepton-events-{house.name}/0@")
        process.send_signal(signal.SIGTERM)
        assert await ended(process, DRAIN_S + 4) == 0, place.said()


async def test_kill_9_amid_numbered_events_loses_and_doubles_nothing(place: Place) -> None:
    house, total = place.house, 6000
    await house.apply(spec(place), partitions=3)

    async def produce() -> None:
        for start in range(0, total, 100):
            await house.send(*(order(number) for number in range(start, start + 100)), partition=start // 100 % 3)
            await house.send(*({"event_id": f"o-{number}", "label": True} for number in range(start, start + 100)),
                             topic=Topic.LABELS, partition=start // 100 % 3)

    producing = asyncio.ensure_future(produce())
    for kill_at in (500, 2500, 4500):
        with place.ingest() as process:
            await rows(place, kill_at)
            process.send_signal(signal.SIGKILL)
            assert await ended(process, 10) == -signal.SIGKILL
    await producing
    with place.ingest() as process:
        found = Counter(row["_event_id"] for row in await rows(place, total, 90))
        wanted = {f"o-{number}" for number in range(total)}
        assert set(found) == wanted
        assert max(found.values()) == 1
        for stream in ("features", "outcomes"):
            kept = Counter(await all_stored(place, stream, total))
            assert set(kept) == wanted
            assert max(kept.values()) == 1
        assert len(await house.outcomes()) == total
        assert await house.letters() == []
        process.send_signal(signal.SIGTERM)
        assert await ended(process, DRAIN_S + 4) == 0, place.said()


async def test_a_frozen_process_is_replaced_and_does_no_harm_when_it_wakes(place: Place) -> None:
    house, total = place.house, 3000
    await house.apply(spec(place), partitions=2)
    with place.ingest("first") as first, place.ingest("second") as second:
        sent = 0
        for frozen in (first, second):
            for start in range(sent, sent + total // 3, 50):
                await house.send(*(order(number) for number in range(start, start + 50)), partition=start // 50 % 2)
            sent += total // 3
            await rows(place, sent - 100)
            frozen.send_signal(signal.SIGSTOP)
            for start in range(sent, sent + total // 6, 50):
                await house.send(*(order(number) for number in range(start, start + 50)), partition=start // 50 % 2)
            sent += total // 6
            # The other one has everything only after it has taken the partitions over.
            await rows(place, sent)
            frozen.send_signal(signal.SIGCONT)
        found = Counter(row["_event_id"] for row in await rows(place, total))
        assert set(found) == {f"o-{number}" for number in range(total)}
        assert max(found.values()) == 1
        kept = Counter(await all_stored(place, "features", total))
        assert set(kept) == set(found)
        assert max(kept.values()) == 1
        for process in (first, second):
            process.send_signal(signal.SIGTERM)
            assert await ended(process, DRAIN_S + 4) == 0, place.said()


async def test_without_a_database_it_says_so_in_one_line_and_exits_3(place: Place) -> None:
    place.environment["LEPTON_MONGO_URL"] = "mongodb://127.0.0.1:1"
    with place.ingest() as process:
        assert await ended(process, 30) == 3
    assert "cannot start" in place.said()
    assert "Traceback" not in place.said()
