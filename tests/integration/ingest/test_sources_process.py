"""The real process pulls from real places and is killed amid: every row is counted once and none is missing."""

import asyncio
import json
import signal
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from lepton.bus.records import Outgoing, TopicPlan
from lepton.contracts.topics import Topic
from tests.harness.api import Api, serving
from tests.harness.records import raw_records
from tests.harness.wait import apoll_until
from tests.integration.ingest.place import DRAIN_S, Place, ended, rows
from tests.unit.ingest.sources.shop import VARIABLE, Table, pulling, sql, standing

pytestmark = [pytest.mark.kafka, pytest.mark.mongo, pytest.mark.process]
EACH = 600
STEP = 30
AHEAD = 100
"""So far every source grows before what was pulled of all: each kill comes amid."""

Grow = Callable[[int, int], Awaitable[None]]
"""Makes the rows from one number up to another appear in the source."""


def order(kind: str, number: int) -> dict[str, Any]:
    return {"order": f"{kind}-{number}", "customer": f"c-{number % 97}", "price": 1.0}


@asynccontextmanager
async def growing(kind: str, place: Place, folder: Path) -> AsyncIterator[tuple[dict[str, Any], Grow]]:
    """A real source of a kind: what a spec says of it, and how it grows."""
    if kind == "sql":
        table = Table(folder / "shop.db")
        place.environment[VARIABLE] = table.url

        async def insert(first: int, end: int) -> None:
            # Ten rows share a cursor value, so a batch ends amid them.
            statement = "insert into orders values (?, ?, '2026-06-01 12:00:00.000000', 1, ?)"
            new = [(number // 10, f"c-{number % 97}", f"sql-{number}") for number in range(first, end)]
            await asyncio.to_thread(table.run, statement, new)

        yield sql(name="sql", batch_rows=64, rename={"note": "order"}), insert
    elif kind == "http":
        async with serving(Api(size=25)) as api:
            async def serve(first: int, end: int) -> None:
                api.items += [order("http", number) for number in range(first, end)]

            yield {"name": "http", "kind": "http", "url": api.url("page"), "paging": "page",
                   "page_size": api.size}, serve
    elif kind == "log":
        place.environment["LEPTON_INGEST_LOG_ROOTS"] = str(folder)
        log = folder / "shop.log"

        async def write(first: int, end: int) -> None:
            with log.open("a") as file:
                file.writelines(json.dumps(order("log", number)) + "\n" for number in range(first, end))
            if end % 200 == 0:
                log.rename(folder / f"shop.log.{end}")

        yield {"name": "log", "kind": "log", "path": f"{log}*"}, write
    else:
        feed = f"feed-{uuid.uuid4().hex[:8]}"
        await place.house.broker.create_topics([TopicPlan(feed, 3, {})])
        writer = place.house.broker.writer("till")
        await writer.start()

        async def produce(first: int, end: int) -> None:
            await writer.send_all([Outgoing(feed, json.dumps(order("kafka", number)).encode(), str(number).encode())
                                   for number in range(first, end)])

        yield {"name": "kafka", "kind": "kafka", "topic": feed}, produce
        await writer.stop()
        await place.house.broker.delete_topics([feed])


async def events(place: Place) -> list[str]:
    """Orders on the events topic, read by a consumer that knows nothing of Lepton."""
    found = await raw_records(place.environment["LEPTON_KAFKA_BOOTSTRAP"], f"lepton-events-{place.house.name}")
    return [json.loads(record.value)["order"] for record in found]


@pytest.mark.timeout(400)  # four processes one after another, on a machine that may be busy
async def test_killed_and_frozen_amid_pulling_it_skips_and_repeats_nothing(place: Place, tmp_path: Path) -> None:
    kinds, total = ("sql", "http", "log", "kafka"), 4 * EACH
    place.environment["LEPTON_INGEST_SOURCE_LEASE_S"] = "3"
    async with AsyncExitStack() as stack:
        sources = [await stack.enter_async_context(growing(kind, place, tmp_path)) for kind in kinds]
        await asyncio.gather(*(grow(0, STEP) for _, grow in sources))
        await place.house.apply(pulling(*(source for source, _ in sources), name=place.house.name))
        go_on = asyncio.Event()
        feeding = asyncio.gather(feed(place, [grow for _, grow in sources], go_on))
        for kill_at in (1, total // 3):
            with place.ingest() as process:
                await rows(place, kill_at)
                process.send_signal(signal.SIGKILL)
                assert await ended(process, 10) == -signal.SIGKILL
        with place.ingest("frozen") as frozen, place.ingest("other") as process:
            for name in ("frozen", "other"):
                await ready(place, name)
            go_on.set()
            await rows(place, total * 3 // 4)
            frozen.send_signal(signal.SIGSTOP)
            found = Counter(row["_event_id"] for row in await rows(place, total, 120))
            await feeding
            frozen.send_signal(signal.SIGCONT)
            for kind in kinds:
                assert (await standing(place.house, kind, state="following", events=EACH))["refused"] == 0
            for one in (frozen, process):
                one.send_signal(signal.SIGTERM)
                assert await ended(one, DRAIN_S + 4) == 0, place.said()
    wanted = {f"{kind}-{number}" for kind in kinds for number in range(EACH)}
    assert set(found) == wanted
    assert max(found.values()) == 1
    # The log of raw events too: nothing was left to deduplication.
    assert Counter(await events(place)) == Counter(wanted)
    assert await place.house.letters(Topic.EVENTS) == []


async def ready(place: Place, instance: str) -> None:
    async def said() -> bool:
        return f"{instance}-{place.house.name} is ready" in place.log.read_text()

    await apoll_until(said, f"{instance} to be ready; it said: {place.said()}", 90)


async def feed(place: Place, sources: list[Grow], go_on: asyncio.Event) -> None:
    """Let all sources grow as far as what was pulled of them allows, the last third only after `go_on`."""
    topic = f"lepton-events-{place.house.name}"
    reader = place.house.broker.reader([topic], group=None, client_id="test-growth")
    await reader.start()
    for first in range(STEP, EACH, STEP):
        async def near(first: int = first) -> bool:
            ends = await reader.end_offsets(sorted(reader.assignment()))
            return sum(ends.values()) > (first - AHEAD) * len(sources)

        if first >= EACH * 2 // 3:
            await go_on.wait()
        await apoll_until(near, f"rows near {first} of each", 120)
        await asyncio.gather(*(grow(first, first + STEP) for grow in sources))
    await reader.stop()
