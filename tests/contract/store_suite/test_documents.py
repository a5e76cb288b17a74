"""The protocol itself: one document at a time, atomically."""

import asyncio

import pytest

from lepton.errors import Invalid, Unavailable
from lepton.store.documents import DocumentDatabase, Index
from lepton.store.mongo import Database
from tests.harness.servers import free_ports


async def test_a_document_comes_back_as_it_went_in(database: DocumentDatabase) -> None:
    things = database.collection("things")
    document = {"_id": "a", "text": "é", "whole": 2**53, "real": 1.5, "flag": True, "none": None, "bytes": b"\0\xff",
                "list": [1, {"x": b"y"}]}
    assert await things.insert(document)
    assert await things.get("a") == document
    assert await things.get("b") is None


async def test_a_second_document_with_the_id_has_no_effect(database: DocumentDatabase) -> None:
    things = database.collection("things")
    assert await things.insert({"_id": "a", "value": 1})
    assert not await things.insert({"_id": "a", "value": 2})
    assert await things.get("a") == {"_id": "a", "value": 1}


async def test_put_replaces_the_whole_document(database: DocumentDatabase) -> None:
    things = database.collection("things")
    await things.put({"_id": "a", "value": 1, "other": 1})
    await things.put({"_id": "a", "value": 2})
    assert await things.get("a") == {"_id": "a", "value": 2}


async def test_a_unique_index_holds_for_inserts_and_changes(database: DocumentDatabase) -> None:
    await database.ensure(Index("things", ("x", "y"), unique=True))
    things = database.collection("things")
    assert await things.insert({"_id": "a", "x": 1, "y": 1})
    assert not await things.insert({"_id": "b", "x": 1, "y": 1})
    assert await things.insert({"_id": "b", "x": 1, "y": 2})
    assert not await things.swap("b", {}, {"y": 1})
    assert await things.get("b") == {"_id": "b", "x": 1, "y": 2}


async def test_find_compares_orders_and_limits(database: DocumentDatabase) -> None:
    things = database.collection("things")
    for number in (3, 1, 2, 5, 4):
        await things.insert({"_id": str(number), "n": number, "odd": number % 2 == 1})
    await things.insert({"_id": "none", "odd": False})

    async def numbers(match: dict[str, object], order: str = "n", limit: int = 0) -> list[int]:
        return [document["n"] for document in await things.find(match, order=order, limit=limit) if "n" in document]

    assert await numbers({}) == [1, 2, 3, 4, 5]
    assert await numbers({}, order="-n", limit=2) == [5, 4]
    assert await numbers({"n": {"$gt": 1, "$lte": 3}}) == [2, 3]
    assert await numbers({"n": {"$gte": 4}}) == [4, 5]
    assert await numbers({"n": {"$lt": 2}}) == [1]
    assert await numbers({"n": {"$in": [1, 9]}}) == [1]
    assert await numbers({"odd": True, "n": {"$ne": 3}}) == [1, 5]
    assert len(await things.find({"n": {"$ne": 3}})) == 5


async def test_an_operator_outside_the_protocol_is_a_bug(database: DocumentDatabase) -> None:
    with pytest.raises(ValueError, match="unknown operator"):
        await database.collection("things").find({"n": {"$regex": "x"}})


async def test_delete_removes_what_matches_and_counts_it(database: DocumentDatabase) -> None:
    things = database.collection("things")
    for number in range(4):
        await things.insert({"_id": str(number), "odd": number % 2 == 1})
    assert await things.delete({"odd": True}) == 2
    assert [document["_id"] for document in await things.find({})] == ["0", "2"]


async def test_of_many_swaps_from_one_state_exactly_one_wins(database: DocumentDatabase) -> None:
    things = database.collection("things")
    await things.insert({"_id": "a", "revision": 1, "by": -1})
    won = await asyncio.gather(*(things.swap("a", {"revision": 1}, {"revision": 2, "by": i}) for i in range(20)))
    assert won.count(True) == 1
    assert await things.get("a") == {"_id": "a", "revision": 2, "by": won.index(True)}


async def test_of_many_inserts_of_one_id_exactly_one_wins(database: DocumentDatabase) -> None:
    things = database.collection("things")
    won = await asyncio.gather(*(things.insert({"_id": "a", "by": i}) for i in range(20)))
    assert won.count(True) == 1
    assert await things.get("a") == {"_id": "a", "by": won.index(True)}


async def test_a_swap_of_an_absent_document_has_no_effect(database: DocumentDatabase) -> None:
    assert not await database.collection("things").swap("a", {}, {"x": 1})
    assert await database.collection("things").get("a") is None


async def test_migrating_twice_and_at_once_is_harmless(database: DocumentDatabase) -> None:
    await asyncio.gather(database.migrate(), database.migrate(), database.migrate())
    recorded = [document["_id"] for document in await database.collection("migrations").find({})]
    assert recorded == sorted(set(recorded)) != []


async def test_a_wrong_address_is_unavailable_in_bounded_time() -> None:
    nobody = Database.connect(f"mongodb://user:hunter2@127.0.0.1:{free_ports(1)[0]}", "lepton")
    async with asyncio.timeout(3):
        with pytest.raises(Unavailable) as raised:
            await nobody.start()
    async with asyncio.timeout(3):
        with pytest.raises(Unavailable):
            await nobody.collection("things").get("a")
    assert "LEPTON_MONGO_URL" in str(raised.value)
    assert "hunter2" not in str(raised.value)
    await nobody.stop()


def test_a_malformed_url_is_invalid_and_its_password_not_repeated() -> None:
    with pytest.raises(Invalid) as raised:
        Database.connect("mongo://user:hunter2@", "lepton")
    assert raised.value.field == "LEPTON_MONGO_URL"
    assert "hunter2" not in str(raised.value)
