"""Snapshots are named by what is in them; segments are rewritten and dropped without anybody reading half of it."""

import asyncio

import pytest

from lepton.clock import FakeClock
from lepton.contracts.pb.data_pb2 import DataAction, DataCommand
from lepton.errors import Missing, Refused, Unavailable
from lepton.store.artifacts import Artifacts, Damaged, sha256_hex
from lepton.store.datasets.erasures import NOBODY, Erasures, Salts
from lepton.store.datasets.jobs import DONE, FAILED, QUEUED, DataJobs
from lepton.store.datasets.snapshots import FEATURES, OUTCOMES, Manifest, Snapshot, Snapshots, pieces_of
from lepton.store.datasets.upkeep import Stored, Upkeep
from lepton.store.documents import DocumentDatabase
from lepton.store.segments import Head, Segments


async def append(database: DocumentDatabase, first: int, data: bytes, *, stream: str = FEATURES, partition: int = 0,
                 pipeline: str = "p", stored_at_s: float = 1000.0, erasures: int = 0) -> None:
    """Ten rows."""
    await Segments(database).append(stream, pipeline, 1, partition, first, first + 10, 10, data, sha256_hex(data),
                                    stored_at_s=stored_at_s, erasures=erasures)


async def manifest_of(database: DocumentDatabase, label_until: str | None = None) -> Manifest:
    upkeep = Upkeep(database)
    segments = [one for stream in (FEATURES, OUTCOMES) for one in await upkeep.segments("p", stream, 1)]
    return Manifest("p", 1, "spec", label_until, pieces_of(segments))


async def take(database: DocumentDatabase) -> Snapshot:
    manifest = await manifest_of(database)
    await Snapshots(database).create(manifest, "{}", 5.0, "lk_1")
    return await Snapshots(database).get(manifest.id)


async def read(database: DocumentDatabase, snapshot: Snapshot) -> list[bytes]:
    return [segment.data async for segment in Snapshots(database).read(snapshot, FEATURES)]


async def rewrite(database: DocumentDatabase, segment: Stored, left: bytes, removed: int, job: str = "j") -> None:
    upkeep = Upkeep(database)
    digest = await upkeep.store("p", segment.digest, left, stream=segment.stream, removed=removed, job=job)
    assert await upkeep.replace(segment, digest, removed, 1)
    await upkeep.release_rewritten("p")


async def test_the_same_rows_give_the_same_id_and_other_rows_another(database: DocumentDatabase) -> None:
    await append(database, 0, b"a")
    await append(database, 0, b"l", stream=OUTCOMES)
    first, again = await take(database), await take(database)
    assert first == again
    assert not await Snapshots(database).create(await manifest_of(database), "{}", 9.0, "lk_2"), "taken twice"
    assert (first.id, first.rows, first.outcomes) == (sha256_hex((await manifest_of(database)).canonical()), 10, 10)
    assert (await manifest_of(database, "2026-01-01T00:00:00+00:00")).id != first.id
    await append(database, 10, b"b")
    assert (await take(database)).id != first.id
    assert await read(database, first) == [b"a"]
    assert [one.id for one in await Snapshots(database).list("p", limit=1)]


async def test_a_manifest_comes_back_whole(database: DocumentDatabase) -> None:
    for partition in (10, 9):
        await append(database, 0, b"%d" % partition, partition=partition)
    snapshot = await take(database)
    manifest = await Snapshots(database).manifest(snapshot.id)
    assert manifest == await manifest_of(database)
    assert [piece.partition for piece in manifest.pieces] == [9, 10]


async def test_what_is_not_there_or_broken_is_said_loudly(database: DocumentDatabase) -> None:
    snapshots = Snapshots(database)
    with pytest.raises(Missing, match="there is no snapshot"):
        await snapshots.get("0" * 64)
    await append(database, 0, b"a")
    await append(database, 10, b"b")
    snapshot = await take(database)
    chunks = database.collection("fs.chunks")
    await chunks.swap(f"{sha256_hex(b'a')}-000000", {}, {"data": b"x"})
    with pytest.raises(Damaged):
        await read(database, snapshot)
    with pytest.raises(Damaged):
        [one async for one in Segments(database).read(FEATURES, "p", 1)]
    await Artifacts(database).delete(sha256_hex(b"a"))
    with pytest.raises(Unavailable, match="are gone"):
        await read(database, snapshot)
    await Artifacts(database).delete(snapshot.id)
    with pytest.raises(Damaged, match="gone"):
        await snapshots.manifest(snapshot.id)


async def test_erased_rows_are_gone_from_segments_and_snapshots_and_counted(database: DocumentDatabase) -> None:
    await append(database, 0, b"ab")
    await append(database, 10, b"c")
    snapshot = await take(database)
    upkeep = Upkeep(database)
    first, second = await upkeep.segments("p", FEATURES)
    await rewrite(database, first, b"a", 3)
    (changed, _) = await upkeep.segments("p", FEATURES)
    assert (changed.rows, changed.erased_rows, changed.first, changed.next) == (7, 3, 0, 10)
    assert [one.data async for one in Segments(database).read(FEATURES, "p", 1)] == [b"a", b"c"]
    assert await read(database, snapshot) == [b"a", b"c"]
    assert await upkeep.erased_rows("p", FEATURES, 1) == 3
    with pytest.raises(Missing):
        await Artifacts(database).get(sha256_hex(b"ab"))
    for _ in range(2):
        assert await Snapshots(database).mark_erased("p", "j", 7.0) == 1
        assert await Snapshots(database).mark_erased("p", "other", 8.0) == 0
    (erased,) = (await Snapshots(database).get(snapshot.id)).erased
    assert (erased.job, erased.rows, erased.at_s) == ("j", 3, 7.0)
    # A second person, from what the first left.
    await rewrite(database, changed, b"", 7, job="k")
    assert await read(database, snapshot) == [b"", b"c"]
    assert await Segments(database).next_offset(FEATURES, "p", 1, 0) == 20
    assert second.digest == sha256_hex(b"c")


async def test_a_segment_that_changed_meanwhile_is_not_replaced(database: DocumentDatabase) -> None:
    await append(database, 0, b"ab")
    (segment,) = await Upkeep(database).segments("p", FEATURES)
    await rewrite(database, segment, b"a", 1)
    assert not await Upkeep(database).replace(segment, sha256_hex(b"b"), 1, 1)


async def test_a_reader_that_was_overtaken_by_an_erasure_reads_what_is_left(database: DocumentDatabase) -> None:
    await append(database, 0, b"ab")
    await append(database, 10, b"cd")
    reading = Segments(database).read(FEATURES, "p", 1)
    assert (await anext(reading)).data == b"ab"
    _, second = await Upkeep(database).segments("p", FEATURES)
    await rewrite(database, second, b"c", 1)
    assert [segment.data async for segment in reading] == [b"c"]


async def test_retention_drops_what_is_old_and_the_chain_goes_on(database: DocumentDatabase) -> None:
    upkeep = Upkeep(database)
    for number in range(3):
        await append(database, number * 10, b"%d" % number, stored_at_s=100.0 * number)
    going = await upkeep.begin_drop("p", 150.0)
    assert [one.first for one in going] == [0, 10]
    assert [one.data async for one in Segments(database).read(FEATURES, "p", 1)] == [b"2"]
    for _ in range(2):
        await upkeep.end_drop(await upkeep.begin_drop("p", 150.0), set())
    assert await Segments(database).next_offset(FEATURES, "p", 1, 0) == 30
    assert (await Segments(database).heads(FEATURES, "p", 1))[0] == Head(30, 30, 3, 20, 2)
    with pytest.raises(Missing):
        await Artifacts(database).get(sha256_hex(b"0"))
    await upkeep.end_drop(await upkeep.begin_drop("p", 1e9), set())
    assert await Segments(database).next_offset(FEATURES, "p", 1, 0) == 30, "an empty chain begun anew"
    with pytest.raises(Refused, match="stored already"):
        await append(database, 0, b"again")
    await append(database, 30, b"3")


async def test_segments_from_before_retention_count_from_when_they_were_first_seen(database: DocumentDatabase) -> None:
    await Segments(database).append(FEATURES, "p", 1, 0, 0, 10, 10, b"a", sha256_hex(b"a"))
    upkeep = Upkeep(database)
    await upkeep.stamp("p", 500.0)
    assert await upkeep.begin_drop("p", 400.0) == []
    assert len(await upkeep.begin_drop("p", 501.0)) == 1


async def test_what_a_snapshot_holds_outlives_retention_until_it_is_dropped(database: DocumentDatabase) -> None:
    await append(database, 0, b"a", stored_at_s=0.0)
    snapshot = await take(database)
    await append(database, 10, b"b", stored_at_s=900.0)
    upkeep, snapshots = Upkeep(database), Snapshots(database)
    going = await upkeep.begin_drop("p", 100.0)
    await upkeep.end_drop(going, await snapshots.pinned("p"))
    assert await read(database, snapshot) == [b"a"]
    assert not await snapshots.drop(snapshot.id, "q"), "a snapshot of another pipeline"
    assert await snapshots.drop(snapshot.id, "p")
    assert not await snapshots.drop(snapshot.id, "p")
    for digest in (sha256_hex(b"a"), snapshot.id):
        with pytest.raises(Missing):
            await Artifacts(database).get(digest)
    assert [one.data async for one in Segments(database).read(FEATURES, "p", 1)] == [b"b"]


async def test_who_is_erased_is_known_by_key_until_the_logs_have_forgotten(database: DocumentDatabase) -> None:
    erasures, salt = Erasures(database), await Salts(database).of("p")
    assert await Salts(database).of("p") == salt != await Salts(database).of("q")
    assert await erasures.current("p") == NOBODY and not NOBODY
    for _ in range(2):
        await erasures.add("p", "j", "key-1", 100.0)
    await erasures.remember_events("p", "j", {b"8 bytes.", b"eight by"})
    await erasures.add("p", "k", "key-2", 200.0)
    known = await erasures.current("p")
    assert (known.entities, known.salt) == (frozenset({"key-1", "key-2"}), salt)
    assert known.events == await erasures.events_of("j") == frozenset({b"8 bytes.", b"eight by"})
    assert await erasures.current("p", known) is known
    assert [await erasures.expire("p", at) for at in (99.0, 100.0, 150.0, 200.0)] == [0, 1, 0, 1]
    assert not await erasures.current("p", known)


async def test_erasures_at_once_are_all_kept(database: DocumentDatabase) -> None:
    await asyncio.gather(*(Erasures(database).add("p", f"j{number}", f"key-{number}", 1e12) for number in range(5)))
    assert len((await Erasures(database).current("p")).entities) == 5


def command(job: str, pipeline: str = "p") -> DataCommand:
    return DataCommand(command_id=job, action=DataAction.DATA_ACTION_SNAPSHOT, pipeline=pipeline, issuer="lk_1")


async def test_jobs_of_a_pipeline_are_done_one_at_a_time_in_their_order(database: DocumentDatabase,
                                                                        clock: FakeClock) -> None:
    jobs = DataJobs(database, clock)
    assert await jobs.enqueue(command("b"), "2")
    assert await jobs.enqueue(command("a"), "1")
    assert await jobs.enqueue(command("q", "q"), "9")
    assert not await jobs.enqueue(command("a"), "1"), "a second delivery"
    taken = [await jobs.claim("one", 10), await jobs.claim("two", 10), await jobs.claim("three", 10)]
    assert [one.command.command_id if one else None for one in taken] == ["a", "q", None]
    assert taken[0] is not None
    await jobs.progress(taken[0], 3, 9, 10)
    assert ((await jobs.get("a")).done, (await jobs.get("a")).total) == (3, 9)
    await jobs.finish(taken[0], {"rows": 1})
    done = await jobs.get("a")
    assert (done.state, done.result, done.action) == (DONE, {"rows": 1}, "SNAPSHOT")
    following = await jobs.claim("two", 10)
    assert following is not None and following.command.command_id == "b"
    await jobs.finish(following, {}, "no rows")
    assert ((await jobs.get("b")).state, (await jobs.get("b")).reason) == (FAILED, "no rows")
    assert {one.id for one in await jobs.list("p", 10)} == {"a", "b"}
    with pytest.raises(Missing):
        await jobs.get("unknown")


async def test_a_job_whose_owner_is_gone_is_taken_over_and_the_old_owner_changes_nothing(database: DocumentDatabase,
                                                                                        clock: FakeClock) -> None:
    jobs = DataJobs(database, clock)
    await jobs.enqueue(command("a"), "1")
    frozen = await jobs.claim("frozen", 10)
    assert frozen is not None
    await clock.advance(10.2)
    assert await jobs.claim("next", 10) is None, "clocks may differ a little"
    await clock.advance(1)
    taken = await jobs.claim("next", 10)
    assert taken is not None
    for late in (jobs.progress(frozen, 1, 1, 10), jobs.finish(frozen, {}), jobs.put_back(frozen, "", 1)):
        with pytest.raises(Refused, match="taken over"):
            await late
    await jobs.put_back(taken, "the database is away", 5)
    assert (await jobs.get("a")).state == QUEUED
    assert await jobs.claim("next", 10) is None
    await clock.advance(5)
    again = await jobs.claim("next", 10)
    assert again is not None and again.fence == taken.fence + 1
    await jobs.let_go("next")
    assert await jobs.claim("other", 10) is not None
