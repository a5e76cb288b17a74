"""The accept stage over recorded batches, without Kafka: microseconds of CPU an event or row, by what is done.

    python -m tests.bench.ingest.recorded json|arrow [--rows 400000] [--rounds 5] [--profile FILE]

The batches are those a poll gives: 16,000 events, or as many Arrow streams of 4,000 rows as a partition's share of a
fetch holds. A round feeds all of them to a stage that knows nothing yet: `handle` is reading, judging, counting,
encoding; `committed` what is remembered; `Kafka's batches` how what is to be written is put together for a request.
Told is the least of the rounds. To compare two trees, run them in turns.
"""

import argparse
import asyncio
import cProfile
import gc
import time
from collections.abc import Iterator

from aiokafka.record.default_records import DefaultRecordBatchBuilder

from lepton.bus.letters.refusing import DeadLetters
from lepton.bus.records import Outgoing, Place, Record
from lepton.clock import SystemClock
from lepton.contracts.arrow.stream import CONTENT_TYPE
from lepton.runtime.health import Health
from lepton.runtime.telemetry import Telemetry
from services.ingest.core.quarantine import Quarantine
from services.ingest.edge.events import AcceptHandler
from services.ingest.edge.topics import LineTopics
from services.ingest.flow.accepting import Accepting
from services.ingest.flow.spec import Spec
from services.ingest.settings import IngestSettings
from tests.bench.ingest.alone import Source
from tests.bench.ingest.events import ARROW_ROWS, PARTITIONS, spec, streams

EVENTS_A_POLL = 16_000
FETCH_BYTES = 4 * 1024 * 1024
BATCH_BYTES = 850_000
LINE = LineTopics.of("bench", 1)
_MS = 1_780_272_000_000

Batch = tuple[Place, list[Record], int]
"""With how many rows it holds."""


def batches(form: str, rows: int) -> list[Batch]:
    return list(_arrow(rows) if form == "arrow" else _json(rows))


def _json(rows: int) -> Iterator[Batch]:
    source = Source(LINE.events, EVENTS_A_POLL)
    for number in range(max(1, rows // EVENTS_A_POLL)):
        yield Place(LINE.events, number % PARTITIONS), source.batch(number % PARTITIONS), EVENTS_A_POLL


def _arrow(rows: int) -> Iterator[Batch]:
    waiting: list[list[Record]] = [[] for _ in range(PARTITIONS)]
    seen = [0] * PARTITIONS
    headers = (("content-type", CONTENT_TYPE.encode()),)
    for partition, data in streams(rows):
        mine = waiting[partition]
        if mine and sum(len(one.value or b"") for one in mine) + len(data) > FETCH_BYTES:
            yield Place(LINE.events, partition), mine, len(mine) * ARROW_ROWS
            mine = waiting[partition] = []
        mine.append(Record(LINE.events, partition, seen[partition], None, data, headers, _MS + seen[partition]))
        seen[partition] += 1
    # The last stream of a partition may be short.
    yield from ((Place(LINE.events, one[0].partition), one, len(one) * ARROW_ROWS) for one in waiting if one)


async def fed(found: list[Batch]) -> dict[str, float]:
    """CPU seconds by what was done, and `rows` that were judged."""
    clock = SystemClock()
    accepting = Accepting(Spec(spec(), 1, 1, PARTITIONS), Quarantine(), lambda parent, _: parent, clock)
    handler = AcceptHandler(accepting, LINE, DeadLetters("bench", clock, lambda _: 10**9, window_s=1.0),
                            Telemetry("ingest", "recorded", IngestSettings(), clock, Health(clock)), clock)
    for partition in range(PARTITIONS):
        accepting.restore_events(partition, {})
    spent = {"handle": 0.0, "committed": 0.0, "Kafka's batches": 0.0}
    for place, records, _ in found:
        began = time.process_time()
        written = await handler.handle(place, records)
        handled = time.process_time()
        _built(written)
        built = time.process_time()
        await handler.committed(place)
        spent["handle"] += handled - began
        spent["Kafka's batches"] += built - handled
        spent["committed"] += time.process_time() - built
    tally = accepting._interval
    return {**spent, "rows": tally.accepted + tally.rejected + tally.duplicates}


def _built(written: list[Outgoing]) -> None:
    """As `lepton.bus.aio.transaction` does, for a topic's partition at a time."""
    by_topic: dict[str, list[Outgoing]] = {}
    for one in written:
        by_topic.setdefault(one.topic, []).append(one)
    for some in by_topic.values():
        builder, number = DefaultRecordBatchBuilder(2, 0, True, 1, 1, 0, BATCH_BYTES), 0
        for one in some:
            if builder.append(number, _MS, one.key, one.value, list(one.headers)) is None:
                builder.build()
                builder, number = DefaultRecordBatchBuilder(2, 0, True, 1, 1, 0, BATCH_BYTES), 0
                builder.append(number, _MS, one.key, one.value, list(one.headers))
            number += 1
        builder.build()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("form", choices=("json", "arrow"))
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--profile", default="")
    given = parser.parse_args()
    found = batches(given.form, given.rows)
    # As services.ingest.app does.
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    rounds = [asyncio.run(fed(found)) for _ in range(given.rounds)]
    rows = rounds[0]["rows"]
    for name in rounds[0]:
        if name != "rows":
            print(f"{name:20} {min(one[name] for one in rounds) / rows * 1e6:.3f}")
    whole = min(sum(one.values()) - one["rows"] for one in rounds)
    print(f"{'all':20} {whole / rows * 1e6:.3f}   of {rows:.0f} rows in {len(found)} batches")
    if given.profile:
        with cProfile.Profile(time.process_time) as profile:
            asyncio.run(fed(found))
        profile.dump_stats(given.profile)


if __name__ == "__main__":
    main()
