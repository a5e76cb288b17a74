"""Rows are kept once each, whatever the store or another writer does in between."""

from typing import Any

from lepton.bus.care import Care
from lepton.bus.letters.refusing import DeadLetters
from lepton.bus.memory import MemoryBroker
from lepton.bus.records import Outgoing, Record, TopicPlan
from lepton.clock import SystemClock
from lepton.contracts import features, topics
from lepton.errors import Invalid, Refused, Unavailable
from lepton.runtime.health import Health
from lepton.store.memory import MemoryDatabase
from lepton.store.segments import Segments
from services.ingest.core.quarantine import Quarantine
from services.ingest.edge.segments import Bulk, SegmentWriter, Stream
from services.ingest.flow.accepting import Accepting, Results, Spec
from services.ingest.flow.keeping import Keeping
from services.ingest.flow.upkeep.forgetting import Forgetting
from tests.harness.bus import read_all, running
from tests.unit.ingest.house import until
from tests.unit.ingest.samples import order, pipeline, records

TOPIC = "lepton-features-shop"


class Shelf:
    """A store of rows that can be told to fail."""

    def __init__(self) -> None:
        self.kept: dict[int, list[tuple[int, int, list[str]]]] = {}
        self.fails: list[Exception] = []
        self.rows = 0

    async def next_offset(self, partition: int) -> int:
        self._fail()
        return self.kept[partition][-1][1] if self.kept.get(partition) else 0

    async def keep(self, partition: int, first: int, next_offset: int, rows: Any) -> int:
        self._fail()
        if first != await self.next_offset(partition):
            raise Refused("another was faster")
        self.kept.setdefault(partition, []).append((first, next_offset, list(rows)))
        return len(rows)

    def everything(self) -> list[str]:
        return [row for chain in self.kept.values() for _, _, rows in chain for row in rows]

    def count(self, rows: int) -> None:
        self.rows += rows

    def _fail(self) -> None:
        if self.fails:
            raise self.fails.pop(0)


def _read(record: Record) -> str:
    if record.value == b"bad":
        raise Invalid("bad", place=record.place)
    return (record.value or b"").decode()


class Bench:
    def __init__(self, rows: int = 100, interval_s: float = 0.05) -> None:
        self.broker = MemoryBroker()
        self.shelf = Shelf()
        self.owned = frozenset({0, 1})
        self.health = Health(SystemClock())
        care = Care(SystemClock(), self.health.check("keep", 30))
        stream = Stream(TOPIC, _read, lambda _: 1, lambda row: row[0], self.shelf.next_offset, self.shelf.keep,
                        self.shelf.count)
        self.writer = SegmentWriter(self.broker, stream, Bulk(rows, interval_s), care, client_id="w",
                                    owned=lambda: self.owned, dead_letters=DeadLetters("ingest", SystemClock()))

    async def furnish(self) -> "Bench":
        await self.broker.create_topics([TopicPlan(TOPIC, 2, {}), TopicPlan(topics.dead_letter_name(TOPIC), 1, {})])
        return self

    async def send(self, *rows: str, partition: int = 0) -> None:
        await self.broker.writer("p").send_all([Outgoing(TOPIC, row.encode(), None, (), partition) for row in rows])

    async def kept(self, *rows: str) -> None:
        async def all_there() -> bool:
            return sorted(self.shelf.everything()) == sorted(rows)

        await until(all_there, f"{rows} to be kept; there is {self.shelf.everything()}")


async def test_rows_are_kept_in_bulk_and_in_order() -> None:
    bench = await Bench(rows=3, interval_s=60).furnish()
    async with running(bench.writer.run):
        await bench.send("a1", "a2", "a3", "a4")
        await bench.kept("a1", "a2", "a3")
    assert bench.shelf.kept == {0: [(0, 3, ["a1", "a2", "a3"]), (3, 4, ["a4"])]}
    assert bench.shelf.rows == 4


async def test_a_trickle_is_kept_after_the_interval() -> None:
    bench = await Bench().furnish()
    async with running(bench.writer.run):
        await bench.send("a1")
        await bench.kept("a1")
        await bench.send("a2", partition=1)
        await bench.kept("a1", "a2")


async def test_rows_of_two_kinds_are_two_segments() -> None:
    bench = await Bench(interval_s=60).furnish()
    async with running(bench.writer.run):
        await bench.send("a1", "a2", "b1")
        await bench.kept("a1", "a2")
    assert [rows for _, _, rows in bench.shelf.kept[0]] == [["a1", "a2"], ["b1"]]


async def test_a_store_that_is_away_or_refuses_loses_and_doubles_nothing() -> None:
    bench = await Bench().furnish()
    bench.shelf.fails = [Unavailable("away"), Unavailable("away")]
    async with running(bench.writer.run):
        await bench.send("a1", "a2")
        await bench.kept("a1", "a2")
        bench.shelf.fails = [Refused("another was faster")]
        await bench.send("a3")
        await bench.kept("a1", "a2", "a3")


async def test_rows_that_another_writer_kept_are_not_kept_again() -> None:
    bench = await Bench(interval_s=0.2).furnish()
    async with running(bench.writer.run):
        await bench.send("a1")
        await bench.kept("a1")
        bench.shelf.kept[0].append((1, 3, ["a2", "a3"]))
        await bench.send("a2", "a3", "a4")
        await bench.kept("a1", "a2", "a3", "a4")


async def test_only_owned_partitions_are_kept() -> None:
    bench = await Bench().furnish()
    bench.owned = frozenset({1})
    async with running(bench.writer.run):
        await bench.send("a1")
        await bench.send("a2", partition=1)
        await bench.kept("a2")
        bench.owned = frozenset({0})
        await bench.kept("a1", "a2")
        await bench.send("a3", partition=1)
        bench.owned = frozenset({0, 1})
        await bench.kept("a1", "a2", "a3")


async def test_a_row_that_cannot_be_read_is_a_dead_letter() -> None:
    bench = await Bench().furnish()
    async with running(bench.writer.run):
        await bench.send("a1", "bad", "a2")
        await bench.kept("a1", "a2")
        assert len(await read_all(bench.broker, topics.dead_letter_name(TOPIC))) == 1


async def test_rows_the_log_no_longer_has_are_reported_and_passed_over() -> None:
    bench = await Bench().furnish()
    await bench.send("a1", "a2", "a3")
    log = bench.broker.topic(TOPIC).logs[0]
    del log.records[:2]
    async with running(bench.writer.run):
        await bench.kept("a3")
    assert bench.shelf.kept[0][0][:2] == (0, 3)


async def test_at_the_end_rows_in_hand_are_left_to_the_next_when_the_store_is_away() -> None:
    bench = await Bench(interval_s=60).furnish()
    async with running(bench.writer.run):
        await bench.send("a1")

        async def in_hand() -> bool:
            return any(chain.rows for chain in bench.writer._chains.values())

        await until(in_hand, "the row to be in hand")
        bench.shelf.fails = [Unavailable("away")]
    assert bench.shelf.everything() == []


async def _batches(*values: Any) -> list[bytes]:
    accepting = Accepting(Spec(pipeline(), 1, 1, 2), Quarantine(), lambda parent, _: parent, SystemClock())
    accepting.restore_events(0, {})
    found = []
    for value in values:
        results: Results = await accepting.accept(0, records(value))
        found += results.features
    return found


async def test_feature_records_become_one_table_a_segment() -> None:
    database = MemoryDatabase()
    store = Segments(database)
    keeping = Keeping(database, lambda: Spec(pipeline(), 1, 1, 2), Forgetting(database), SystemClock())
    one, two, three = await _batches(order(1), order(2), order(3))
    assert await keeping.keep_features(0, 0, 1, [one]) == 1
    assert await keeping.keep_features(0, 1, 4, [two, three]) == 2
    assert await keeping.next_offset("features", 0) == 4
    tables = [features.decode_table(segment.data) async for segment in store.read("features", "shop", 1)]
    assert [table.column("_event_id").to_pylist() for table in tables] == [["o-1"], ["o-2", "o-3"]]
    assert features.spec_version(tables[1].schema) == 1
