"""The real process killed amid numbered events: every window column is what an independent computation gives."""

import asyncio
import math
import random
import signal
from collections import Counter
from typing import Any

import pytest

from lepton.contracts import features
from lepton.contracts.pipeline import Pipeline, parse
from lepton.contracts.topics import Topic
from tests.integration.ingest.place import DRAIN_S, Place, ended, rows
from tests.unit.ingest.windows.oracle import Oracle
from tests.unit.ingest.windows.samples import Event, at

pytestmark = [pytest.mark.kafka, pytest.mark.mongo, pytest.mark.process]
TOTAL, PARTITIONS, ENTITIES, CHUNK = 5000, 3, 150, 50
EVERY = "[count, sum, mean, std, min, max, distinct, last, time_since]"


def spec(name: str) -> Pipeline:
    return parse(f"""\
apiVersion: lepton/v1
kind: Pipeline
metadata: {{name: {name}}}
events:
  id: id
  entity: card
  time: at
  partitions: {PARTITIONS}
  fields: {{value: {{type: float}}, note: {{type: text}}}}
features:
  windows:
    - {{name: minute, size: 1m, of: value, aggregates: {EVERY}}}
    - {{name: hop, kind: hopping, size: 2m, every: 20s, of: value, aggregates: {EVERY}}}
    - {{name: slide, kind: sliding, size: 1m, of: value, aggregates: [count, mean, max]}}
    - {{name: visit, kind: session, gap: 15s, of: note, aggregates: [count, distinct]}}
""")


def numbered(number: int, rng: random.Random) -> dict[str, Any]:
    """Ten events a second of event time, one in ten up to two minutes late, one in twenty without a value."""
    late_s = rng.random() * 120 if rng.random() < 0.1 else 0.0
    return {"id": f"n-{number}", "card": f"card-{rng.randrange(ENTITIES)}",
            "at": at(number / 10 - late_s) / 1_000_000, "note": f"note-{rng.randrange(40)}",
            "value": None if rng.random() < 0.05 else round(rng.uniform(-100, 100), 3)}


async def test_kill_9_amid_events_leaves_every_window_as_if_nothing_had_happened(place: Place) -> None:
    house, pipeline, rng = place.house, spec(place.house.name), random.Random(11)
    events = [numbered(number, rng) for number in range(TOTAL)]
    await house.apply(pipeline, partitions=PARTITIONS)

    async def produce(first: int, until: int) -> None:
        for start in range(first, until, CHUNK):
            for partition in range(PARTITIONS):
                mine = [one for one in events[start:start + CHUNK] if int(one["card"][5:]) % PARTITIONS == partition]
                await house.send(*mine, partition=partition)

    third = TOTAL // 3 // CHUNK * CHUNK
    for first in (0, third):
        with place.ingest() as process:
            await produce(first, first + CHUNK)
            await rows(place, first + CHUNK)
            producing = asyncio.ensure_future(produce(first + CHUNK, first + third))
            await rows(place, first + third // 4)
            process.send_signal(signal.SIGKILL)
            assert await ended(process, 10) == -signal.SIGKILL
            await producing
    with place.ingest() as process:
        await produce(2 * third, TOTAL)
        ids = Counter(row["_event_id"] for row in await rows(place, TOTAL, 90))
        process.send_signal(signal.SIGTERM)
        assert await ended(process, DRAIN_S + 4) == 0, place.said()
    assert ids == Counter({f"n-{number}": 1 for number in range(TOTAL)})
    assert await recomputed(place, pipeline) == TOTAL


async def recomputed(place: Place, pipeline: Pipeline) -> int:
    """Rows whose every window column is what the oracle gives for the rows before it in its partition."""
    oracles = [Oracle(pipeline.features.windows) for _ in range(PARTITIONS)]
    count = 0
    for record in await place.house.read(Topic.FEATURES):
        for row in features.decode_batch(record.value or b"").to_pylist():
            moment = round(row["_occurred_at"].timestamp() * 1_000_000)
            expected = oracles[record.partition].accept(Event(row["_entity"], moment, row["value"], row["note"]))
            assert [name for name, value in expected.items() if not alike(row[name], value)] == [], (row, expected)
            count += 1
    return count


def alike(found: float | None, expected: float | None) -> bool:
    if found is None or expected is None:
        return found is expected
    return math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-6)
