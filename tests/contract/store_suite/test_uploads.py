"""Uploads: begun once, advanced by one writer at a time, and found again."""

import asyncio
from dataclasses import replace

import pytest

from lepton.clock import FakeClock
from lepton.errors import Missing, Refused
from lepton.store.documents import DocumentDatabase
from lepton.store.files.uploads import Upload, Uploads

NEW = Upload(id="u1", pipeline="shop", generation=1, name="people.csv", format="csv", size=1000, sha256="ab" * 32)


async def test_an_upload_is_begun_once_and_the_same_again_is_the_one_that_stands(
        database: DocumentDatabase, clock: FakeClock) -> None:
    uploads = Uploads(database, clock)
    first = await uploads.begin(NEW)
    moved = await uploads.advance(first, offset=10, rest=b"a,\xff\x00", columns=("id", ""), rows=3)
    again = await uploads.begin(replace(NEW, name="other.csv"))
    assert again == moved
    assert (again.name, again.offset, again.rest, again.columns, again.revision) == (
        "people.csv", 10, b"a,\xff\x00", ("id", ""), 2)


async def test_of_many_who_begin_one_makes_it(database: DocumentDatabase, clock: FakeClock) -> None:
    begun = await asyncio.gather(*(Uploads(database, clock).begin(replace(NEW, name=f"{i}.csv")) for i in range(8)))
    assert len({one.name for one in begun}) == 1


async def test_of_many_who_advance_from_the_same_state_one_may(database: DocumentDatabase, clock: FakeClock) -> None:
    uploads = Uploads(database, clock)
    stands = await uploads.begin(NEW)

    async def advance(offset: int) -> bool:
        try:
            await uploads.advance(stands, offset=offset)
        except Refused:
            return False
        return True

    assert (await asyncio.gather(*(advance(offset) for offset in range(1, 9)))).count(True) == 1


async def test_what_was_never_begun_is_missing(database: DocumentDatabase, clock: FakeClock) -> None:
    uploads = Uploads(database, clock)
    for call in (uploads.get("u9"), uploads.advance(replace(NEW, id="u9", revision=1), offset=1)):
        with pytest.raises(Missing):
            await call


async def test_uploads_of_a_pipeline_are_listed_newest_first(database: DocumentDatabase, clock: FakeClock) -> None:
    uploads = Uploads(database, clock)
    for number in range(3):
        await uploads.begin(replace(NEW, id=f"u{number}"))
        await clock.advance(1)
    await uploads.begin(replace(NEW, id="x", pipeline="other"))
    assert [one.id for one in await uploads.list("shop", 2)] == ["u2", "u1"]
