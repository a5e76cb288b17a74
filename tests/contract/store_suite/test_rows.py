"""Segments are gap-free chains, and artefacts are what their name says."""

import asyncio
from pathlib import Path

import pytest

from lepton.errors import Invalid, Missing, Refused, Unavailable
from lepton.store.artifacts import CHUNK_SIZE_BYTES, Artifacts, FileArtifacts, sha256_hex
from lepton.store.documents import DocumentDatabase
from lepton.store.segments import Head, Segment, Segments


async def append(segments: Segments, first: int, next_: int, data: bytes = b"rows", *, partition: int = 0,
                 pipeline: str = "p") -> None:
    await segments.append("features", pipeline, 1, partition, first, next_, next_ - first, data, sha256_hex(data))


async def stored(segments: Segments, ranges: dict[int, tuple[int, int]] | None = None) -> list[Segment]:
    return [segment async for segment in segments.read("features", "p", 1, ranges)]


async def test_a_chain_grows_from_its_stored_next(database: DocumentDatabase) -> None:
    segments = Segments(database)
    assert await segments.next_offset("features", "p", 1, 0) == 0
    await append(segments, 0, 10, b"one")
    await append(segments, 10, 25, b"three")
    assert await segments.next_offset("features", "p", 1, 0) == 25
    assert await segments.heads("features", "p", 1) == {0: Head(25, 25, 8)}
    assert [(segment.first, segment.next, segment.data) for segment in await stored(segments)] == [
        (0, 10, b"one"), (10, 25, b"three")]


async def test_a_gap_is_refused(database: DocumentDatabase) -> None:
    segments = Segments(database)
    await append(segments, 0, 10)
    with pytest.raises(Refused, match="from 10 to 11 are missing"):
        await append(segments, 11, 12)
    with pytest.raises(Refused, match="from 0 to 5 are missing"):
        await append(segments, 5, 6, partition=1)
    assert await segments.rows("features", "p", 1) == 10


async def test_the_same_append_again_has_no_second_effect(database: DocumentDatabase) -> None:
    segments = Segments(database)
    for _ in range(2):
        await append(segments, 0, 10)
    await append(segments, 10, 20)
    await append(segments, 0, 10)
    assert await segments.heads("features", "p", 1) == {0: Head(20, 20, 8)}
    assert len(await stored(segments)) == 2


async def test_other_rows_at_a_stored_offset_are_refused(database: DocumentDatabase) -> None:
    segments = Segments(database)
    await append(segments, 0, 10)
    for first, next_, data in ((0, 10, b"other"), (0, 9, b"rows"), (3, 10, b"rows")):
        with pytest.raises(Refused, match="stored already, with other rows"):
            await append(segments, first, next_, data)
    assert [segment.data for segment in await stored(segments)] == [b"rows"]


async def test_bytes_that_do_not_match_their_digest_are_refused(database: DocumentDatabase) -> None:
    with pytest.raises(Refused, match="digest"):
        await Segments(database).append("features", "p", 1, 0, 0, 1, 1, b"rows", sha256_hex(b"other"))


async def test_of_two_writers_at_one_offset_one_wins_and_the_chain_stays_whole(database: DocumentDatabase) -> None:
    writers = [Segments(database) for _ in range(6)]
    done = await asyncio.gather(
        *(append(writer, 0, number + 1, f"{number}".encode()) for number, writer in enumerate(writers)),
        return_exceptions=True)
    assert sum(result is None for result in done) == 1
    assert all(isinstance(result, Refused) for result in done if result is not None)
    (winner,) = await stored(writers[0])
    assert await writers[0].next_offset("features", "p", 1, 0) == winner.next == winner.rows


async def test_a_head_left_behind_by_a_killed_writer_is_repaired(database: DocumentDatabase) -> None:
    segments = Segments(database)
    await append(segments, 0, 10)
    before = await database.collection("segment_heads").get("features:p:g1:0")
    await append(segments, 10, 20)
    assert before is not None
    await database.collection("segment_heads").put(before)
    assert await Segments(database).next_offset("features", "p", 1, 0) == 20
    assert await segments.heads("features", "p", 1) == {0: Head(20, 20, 8)}


async def test_a_range_gives_the_segments_that_overlap_it(database: DocumentDatabase) -> None:
    segments = Segments(database)
    for partition in (1, 0):
        for first in (0, 10, 20, 30):
            await append(segments, first, first + 10, b"%d/%d" % (partition, first), partition=partition)
    assert [segment.first for segment in await stored(segments, {0: (10, 30)})] == [10, 20]
    assert [segment.first for segment in await stored(segments, {0: (15, 21)})] == [10, 20]
    assert [(segment.partition, segment.first) for segment in await stored(segments, {1: (0, 1), 0: (39, 99)})] == [
        (0, 30), (1, 0)]


async def test_deleting_a_pipeline_leaves_the_bytes_another_one_needs(database: DocumentDatabase) -> None:
    segments = Segments(database)
    await append(segments, 0, 10, b"shared")
    await append(segments, 10, 20, b"own")
    await append(segments, 0, 10, b"shared", pipeline="q")
    await segments.delete_pipeline("p")
    assert await stored(segments) == []
    assert await segments.next_offset("features", "p", 1, 0) == 0
    assert [segment.data async for segment in segments.read("features", "q", 1)] == [b"shared"]
    with pytest.raises(Missing):
        await Artifacts(database).get(sha256_hex(b"own"))


async def test_an_artefact_comes_back_whole(database: DocumentDatabase) -> None:
    artifacts = Artifacts(database)
    for data in (b"", b"x", b"ab" * CHUNK_SIZE_BYTES + b"c"):
        digest = await artifacts.put(data)
        assert digest == sha256_hex(data) == await artifacts.put(data)
        assert await artifacts.get(digest) == data


async def test_many_puts_of_one_artefact_at_once_leave_it_whole(database: DocumentDatabase) -> None:
    data = b"abc" * CHUNK_SIZE_BYTES
    digests = await asyncio.gather(*(Artifacts(database).put(data) for _ in range(4)))
    assert set(digests) == {sha256_hex(data)}
    assert await Artifacts(database).get(digests[0]) == data


async def test_an_upload_killed_half_way_neither_shows_nor_blocks(database: DocumentDatabase) -> None:
    artifacts, data = Artifacts(database), b"abc" * CHUNK_SIZE_BYTES
    digest = sha256_hex(data)
    await database.collection("fs.chunks").put({"_id": f"{digest}-000000", "files_id": digest, "n": 0, "data": b"half"})
    with pytest.raises(Missing):
        await artifacts.get(digest)
    await artifacts.put(data)
    assert await artifacts.get(digest) == data


async def test_damaged_bytes_are_not_given_and_another_put_repairs_them(database: DocumentDatabase) -> None:
    artifacts, data = Artifacts(database), b"model bytes"
    digest = await artifacts.put(data)
    await database.collection("fs.chunks").swap(f"{digest}-000000", {}, {"data": b"model bytez"})
    with pytest.raises(Unavailable, match="damaged"):
        await artifacts.get(digest)
    await artifacts.put(data)
    assert await artifacts.get(digest) == data


async def test_a_name_that_is_no_digest_is_invalid(database: DocumentDatabase, tmp_path: Path) -> None:
    for store in (Artifacts(database), FileArtifacts(tmp_path)):
        with pytest.raises(Invalid):
            await store.get("../etc/passwd")


async def test_a_deleted_artefact_is_missing(database: DocumentDatabase, tmp_path: Path) -> None:
    for store in (Artifacts(database), FileArtifacts(tmp_path)):
        digest = await store.put(b"x")
        await store.delete(digest)
        await store.delete(digest)
        with pytest.raises(Missing):
            await store.get(digest)


async def test_a_damaged_file_is_removed_and_missing(tmp_path: Path) -> None:
    files = FileArtifacts(tmp_path / "cache")
    digest = await files.put(b"model")
    assert await files.get(digest) == b"model"
    files.path(digest).write_bytes(b"mode1")
    with pytest.raises(Missing, match="damaged"):
        await files.get(digest)
    assert not files.path(digest).exists()
    assert await files.put(b"model") == digest
    assert await files.get(digest) == b"model"


async def test_the_newest_segments_are_found_without_reading_any(database: DocumentDatabase) -> None:
    segments = Segments(database)
    assert await segments.newest("features", "p", 1, 0, 5) == (0, 0)
    await append(segments, 0, 10, b"one")
    await append(segments, 10, 25, b"two")
    await append(segments, 25, 30, b"three")
    wanted = {1: 25, 5: 25, 6: 10, 20: 10, 21: 0, 30: 0, 1000: 0, 0: 30}
    assert {rows: (await segments.newest("features", "p", 1, 0, rows))[0] for rows in wanted} == wanted
    assert (await segments.newest("features", "p", 1, 0, 6))[1] == 30


async def test_a_reader_may_keep_what_it_read(database: DocumentDatabase) -> None:
    writer, reader = Segments(database), Segments(database, cache_bytes=8)
    await append(writer, 0, 10, b"four")
    await append(writer, 10, 20, b"more")
    await append(writer, 20, 30, b"last")
    everything = [segment.data for segment in await stored(reader)]
    for data in (b"four", b"more", b"last"):
        await Artifacts(database).delete(sha256_hex(data))
    # The oldest had to go; the others are served without the database's bytes.
    assert everything == [b"four", b"more", b"last"]
    assert [segment.data for segment in await stored(reader, {0: (10, 30)})] == [b"more", b"last"]
    with pytest.raises(Unavailable):
        await stored(reader, {0: (0, 10)})
