"""A backup of a real broker and database, brought back: the same documents, records, offsets and groups."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio
from pydantic import SecretStr

from deploy.backup import files, taking
from deploy.backup.archive import parts
from deploy.backup.archive.parts import ArchiveWriter
from deploy.backup.archive.secret import Secret
from deploy.backup.plan import Plan
from deploy.backup.restoring.bringing import bring
from deploy.backup.restoring.forward import Forward, until
from deploy.backup.site import Site
from lepton.bus import kafka
from lepton.bus.kafka import KafkaBroker
from lepton.bus.records import Outgoing, Place, Record, TopicPlan
from lepton.contracts import topics
from lepton.contracts.signing import Identity
from lepton.contracts.topics import Topic
from lepton.errors import Refused
from lepton.runtime.settings import BrokerOptions
from lepton.store.artifacts import Artifacts
from lepton.store.mongo import Database
from tests.harness.bus import read_all
from tests.harness.servers import Server, start_kafka

pytestmark = [pytest.mark.kafka, pytest.mark.mongo]

EVENTS, FEATURES = topics.name(Topic.EVENTS, "shop"), topics.name(Topic.FEATURES, "shop")
STATE, LETTERS = topics.name(Topic.INGEST_STATE, "shop"), topics.dead_letter_name(topics.name(Topic.EVENTS, "shop"))
TELEMETRY, INSTANCES = topics.name(Topic.TELEMETRY), topics.name(Topic.INSTANCES)
ALL = (EVENTS, FEATURES, STATE, LETTERS, TELEMETRY, INSTANCES)
SECRET = Secret("key", bytes(range(32)))
GROUP = "ingest.shop"
OWN = {"retention.ms": "123456789"}
"""What somebody set of a topic by hand."""


@pytest.fixture(scope="module")
def own_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A broker of this file's own: bringing a backup back takes all topics of the platform away first."""
    server = start_kafka(tmp_path_factory.mktemp("kafka"))
    yield server
    server.stop()


@pytest.fixture
def site(own_kafka: Server, mongo_url: str, tmp_path: Path) -> Site:
    Identity.create(tmp_path / "keys", "operator")
    options = BrokerOptions(own_kafka.address, "backup-test", password=SecretStr(""))
    return Site("shop", options, mongo_url, "backup-test", 1, {"keys": tmp_path / "keys", "trust": tmp_path / "trust"})


@pytest_asyncio.fixture
async def broker(site: Site) -> AsyncIterator[KafkaBroker]:
    """With the pipeline's topics empty."""
    found = kafka.connect(site.broker)
    await found.delete_topics([name for name in await found.list_topics() if topics.locate(name)])
    plans = [TopicPlan(*plan) for plan in [*topics.plans("shop", partitions=2), *topics.plans()]]
    await found.create_topics([replace(plan, config={**plan.config, **OWN}) if plan.name == LETTERS else plan
                               for plan in plans if plan.name in ALL])
    yield found
    await found.close()


@pytest_asyncio.fixture
async def database(site: Site) -> AsyncIterator[Database]:
    found = site.database()
    await found.drop()
    await found.start()
    yield found
    await found.drop()
    await found.close()


async def backup(site: Site, path: Path, created: str) -> Path:
    with ArchiveWriter(path, SECRET, {"stack": site.name, "created": created, "sealed_by": "key"}) as archive:
        plan = await taking.take(site, archive, created, all_events=True)
        files.copy(archive, site.files)
        archive.finish(plan.to_json(), Identity.load(site.operator))
    return path


async def send(broker: KafkaBroker, *records: Outgoing) -> None:
    writer = broker.writer("test")
    await writer.start()
    await writer.send_all(records)
    await writer.stop()


def events(partition: int, first: int, count: int) -> list[Outgoing]:
    return [Outgoing(EVENTS, json.dumps({"n": number}).encode(), b"k", (("content-type", b"application/json"),),
                     partition) for number in range(first, first + count)]


async def commit(broker: KafkaBroker, offsets: dict[Place, int]) -> None:
    reader = broker.reader([EVENTS], group=GROUP, client_id="test", member=False)
    await reader.start()
    await reader.commit(offsets)
    await reader.stop()


async def fill(broker: KafkaBroker, database: Database) -> None:
    """Events of which some are gone by retention, rows in transactions, an aborted one among them, state, letters."""
    await send(broker, *events(0, 0, 30), *events(1, 0, 5), Outgoing(TELEMETRY, b"t"), Outgoing(INSTANCES, b"i", b"a"),
               Outgoing(STATE, b"old", b"a", (), 0), Outgoing(STATE, b"new", b"a", (), 0),
               Outgoing(STATE, b"gone", b"b", (), 1), Outgoing(STATE, None, b"b", (), 1))
    await broker._admin.delete_before({Place(EVENTS, 0): 12})
    await commit(broker, {Place(EVENTS, 0): 20, Place(EVENTS, 1): 5})
    rows = broker.transactional_writer("rows")
    await rows.start()
    for number in range(4):
        await rows.commit([Outgoing(FEATURES, f"rows {number}".encode(), None, (), 0),
                           Outgoing(LETTERS, f"letter {number}".encode(), b"k", (("lepton-dead-reason", b"bad"),), 0)],
                          {}, GROUP)
    await rows.stop()
    exact = broker.exact_writer("aborted")
    await exact.start()
    await exact.write(Place(LETTERS, 0), [Record(LETTERS, 0, 0, None, b"before a gap")], 6)
    await exact.settle()
    await exact.stop()
    await send(broker, Outgoing(LETTERS, b"after a gap", None, (), 0))
    chain = {"stream": "features", "pipeline": "shop", "generation": 1, "partition": 0}
    artifacts = Artifacts(database)
    for first, next_ in ((0, 2), (2, 4), (8, 90)):
        digest = await artifacts.put(f"bytes {first}".encode() * 100_000)
        await database.collection("segments").put({"_id": f"s{first}", **chain, "first": first, "next": next_,
                                                   "digest": digest, "rows": 2})
    await database.collection("segment_heads").put({"_id": "h", **chain, "next": 2, "rows": 2, "bytes": 9})
    await database.collection("models").put({"_id": "shop", "revision": 7, "pending": False, "announcement": b"\0\xff",
                                             "share": 0.1, "big": 2**40, "none": None, "list": [{"a": [True]}]})


async def bounds(broker: KafkaBroker) -> dict[Place, tuple[int, int]]:
    reader = broker.reader(ALL, group=None, client_id="bounds")
    await reader.start()
    places = sorted(reader.assignment())
    begins, ends = await reader.begin_offsets(places), await reader.end_offsets(places)
    await reader.stop()
    return {place: (begins[place], ends[place]) for place in places}


def timeless(records: Sequence[Record]) -> list[Record]:
    return [record._replace(timestamp_ms=0) for record in records]


async def test_what_comes_back_is_what_was_there_offset_for_offset(
        site: Site, broker: KafkaBroker, database: Database, tmp_path: Path) -> None:
    await fill(broker, database)
    path = await backup(site, tmp_path / "b", "2026-05-04T12:00:00+00:00")
    before = {name: timeless(await read_all(broker, name)) for name in ALL}
    where, described = await bounds(broker), await broker.describe_topics(ALL)
    assert described[LETTERS].config.items() >= OWN.items()
    documents = {name: await database.collection(name).find({}) for name in ("models", "segments", "fs.chunks")}
    manifest = parts.check(path, SECRET)
    with pytest.raises(Refused, match=r"not empty: .* documents, 6 topics; .*--replace shop"):
        await bring(site, path, SECRET, manifest)
    with pytest.raises(Refused, match="not empty"):
        await bring(site, path, SECRET, manifest, replace="shot")
    assert {name: timeless(await read_all(broker, name)) for name in ALL} == before

    said = await bring(site, path, SECRET, manifest, replace="shop")

    assert any("as in the backup" in line for line in said)
    after, now = {name: timeless(await read_all(broker, name)) for name in ALL}, await bounds(broker)
    assert await broker.describe_topics(ALL) == described
    assert after[EVENTS] == before[EVENTS]
    assert after[LETTERS] == before[LETTERS]
    assert after[STATE] == before[STATE]
    # Rows before the head of their chain are in the store; what telemetry said of another stack is not brought back.
    assert after[FEATURES] == [record for record in before[FEATURES] if record.offset >= 2]
    assert after[TELEMETRY] == after[INSTANCES] == []
    assert {place: end for place, (_, end) in now.items() if place.topic not in (STATE, INSTANCES)} == \
        {place: end for place, (_, end) in where.items() if place.topic not in (STATE, INSTANCES)}
    assert now[Place(EVENTS, 0)] == (12, 30)
    assert dict(await broker.group_offsets(GROUP)) == {Place(EVENTS, 0): 20, Place(EVENTS, 1): 5}

    found = {name: await database.collection(name).find({}) for name in documents}
    assert found["models"] == [{**documents["models"][0], "pending": True}]
    assert [one["_id"] for one in found["segments"]] == ["s0", "s2"], "s8 lies behind the end of its topic"
    assert found["fs.chunks"] == documents["fs.chunks"]
    assert await Artifacts(database).get(str(found["segments"][0]["digest"])) == b"bytes 0" * 100_000
    await send(broker, *events(0, 100, 1))
    assert (await read_all(broker, EVENTS))[18].offset == 30


async def test_a_backup_is_gone_on_from_with_the_events_of_a_later_one(
        site: Site, broker: KafkaBroker, database: Database, tmp_path: Path) -> None:
    await fill(broker, database)
    base = await backup(site, tmp_path / "a", "2026-05-04T12:00:00+00:00")
    await send(broker, *events(0, 30, 4))
    ended_ms = max(record.timestamp_ms for record in await read_all(broker, EVENTS))
    await send(broker, *events(0, 34, 6), *events(1, 5, 4))
    await broker._admin.delete_before({Place(EVENTS, 0): 28})
    # Of a stack that lost its registry, what is left does to go on with.
    await database.collection("models").delete({})
    later = await backup(site, tmp_path / "b", "2026-05-05T12:00:00+00:00")

    def ahead(*ends: str) -> Forward:
        return Forward(base, later, SECRET, parts.check(later, SECRET), until(ends))

    manifest = parts.check(base, SECRET)
    with pytest.raises(Refused, match="20 are taken in by the backup"):
        await bring(site, base, SECRET, manifest, forward=ahead(f"{EVENTS}/0@15"), replace="shop")
    with pytest.raises(Refused, match="from a later backup"):
        await bring(site, later, SECRET, parts.check(later, SECRET), replace="shop",
                    forward=Forward(later, base, SECRET, manifest, until([])))

    # A time ends every partition, an offset its own.
    for end, second in ((f"{EVENTS}/0@34", 9), (datetime.fromtimestamp(ended_ms / 1000, UTC).isoformat(), 5)):
        await bring(site, base, SECRET, manifest, forward=ahead(end), replace="shop")
        offsets = [(record.partition, record.offset) for record in await read_all(broker, EVENTS)]
        assert offsets == [(0, at) for at in range(12, 34)] + [(1, at) for at in range(second)]
        assert [one["_id"] for one in await database.collection("models").find({})] == ["shop"]
        assert dict(await broker.group_offsets(GROUP)) == {Place(EVENTS, 0): 20, Place(EVENTS, 1): 5}


async def test_records_written_while_a_backup_is_taken_are_behind_its_end(
        site: Site, broker: KafkaBroker, database: Database, tmp_path: Path) -> None:
    await send(broker, *events(0, 0, 10))
    writing = asyncio.Event()

    async def write() -> None:
        count = 10
        while not writing.is_set():
            await send(broker, *events(0, count, 50))
            count += 50

    task = asyncio.ensure_future(write())
    path = await backup(site, tmp_path / "b", "2026-05-04T12:00:00+00:00")
    writing.set()
    await task
    manifest = parts.check(path, SECRET)
    span = next(span for topic in Plan.from_json(manifest.plan).topics if topic.name == EVENTS
                for span in topic.spans if span.partition == 0)
    assert manifest.part(f"topics/{EVENTS}").items == span.end - span.first >= 10
    await bring(site, path, SECRET, manifest, replace="shop")
    assert [record.offset for record in await read_all(broker, EVENTS)] == list(range(span.end))


async def test_a_record_outside_a_transaction_lies_after_the_one_that_just_ended(broker: KafkaBroker) -> None:
    """A broker answers before it writes the mark of a transaction's end, which takes an offset of its own."""
    place, offset = Place(LETTERS, 0), 0
    exact = broker.exact_writer("alternating")
    await exact.start()
    for number in range(40):
        for gap in (1, 3, 0):
            record = Record(LETTERS, 0, 0, None, f"{number} {gap}".encode())
            assert await exact.write(place, [record], gap) == offset
            offset += 1 + gap
    await exact.settle()
    assert (await bounds(broker))[place] == (0, offset)
    await exact.stop()
