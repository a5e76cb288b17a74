"""A table as a source, over a real SQLite file: each row once, whatever its cursor repeats and whenever it comes."""

import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy

from lepton.contracts import codec
from lepton.contracts.pb.quality_pb2 import QualitySummary
from lepton.contracts.source_blocks import SqlSource
from lepton.contracts.topics import Topic
from services.ingest.edge.sources.sql import SqlOrigin
from services.ingest.flow.pulling.origin import Row
from tests.unit.ingest.house import House, living, until
from tests.unit.ingest.sources.shop import VARIABLE, Table, events, pulled, pulling, sql, standing


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Table:
    made = Table(tmp_path / "shop.db")
    monkeypatch.setenv(VARIABLE, made.url)
    return made


async def test_rows_become_events_with_types_key_source_and_an_id_of_their_own(house: House, table: Table) -> None:
    table.add(1, 2)
    async with living(house):
        await house.apply(pulling(sql()))
        found = await pulled(house, 2)
    assert found[0]["price"] == 1.5
    assert found[0]["at"] == "2026-06-01T12:00:00Z"
    assert {one["_key"] for one in found} == {"c"}
    assert {one["ce_source"] for one in found} == {"source/orders"}
    assert sorted(one["ce_id"].split("/")[:2] for one in found) == [["orders", "1"], ["orders", "2"]]
    assert sorted(row["_event_id"] for row in await house.rows()) == sorted(one["ce_id"] for one in found)


async def test_it_goes_on_where_it_was_after_a_restart(house: House, table: Table) -> None:
    table.add(*range(30))
    async with living(house):
        await house.apply(pulling(sql(batch_rows=7, tie="note", rename={"note": "note"})))
        await pulled(house, 30)
    table.add(*range(30, 45))
    async with living(house):
        await pulled(house, 45)
        found = await standing(house, "orders", state="following")
    assert Counter(one["note"] for one in await events(house)) == Counter(f"n-{number}" for number in range(45))
    assert (found["events"], found["cursor"], found["lag"]) == (45, "44, n-44", 0)


async def test_rows_that_share_a_cursor_value_are_taken_once_each_also_when_they_come_late(
        house: House, table: Table) -> None:
    table.add(1, 1, 1, 2, 2, 3, 3, 3, 3, 3, 3, 3)
    table.run("update orders set note = rowid")
    async with living(house):
        await house.apply(pulling(sql(batch_rows=2)))
        await pulled(house, 12)
        table.run("insert into orders values (3, 'c', '2026-06-01 12:00:00.000000', 1, 'late')")
        await pulled(house, 13)
        await standing(house, "orders", state="following", events=13)
    async with living(house):
        table.run("insert into orders values (3, 'c', '2026-06-01 12:00:00.000000', 1, 'later')")
        await pulled(house, 14)
        await standing(house, "orders", state="following", events=14)
    found = await events(house)
    assert sorted(one["note"] for one in found) == sorted([*map(str, range(1, 13)), "late", "later"])
    assert len({one["ce_id"] for one in found}) == 14


async def test_rows_that_cannot_be_events_are_dead_letters_with_their_place(house: House, table: Table) -> None:
    table.add(1)
    table.add(2, customer=None)
    table.run("insert into orders values (3, 'c', '2026-06-01 12:00:00.000000', 1, x'00ff')")
    table.add(4)
    async with living(house):
        await house.apply(pulling(sql()))
        await pulled(house, 2)
        found = await standing(house, "orders", state="following")

        async def summed() -> bool:
            told = [codec.decode_as(Topic.QUALITY, QualitySummary, one.value or b"")
                    for one in await house.read(Topic.QUALITY)]
            return sum(one.rejected for summary in told for one in summary.sources
                       if one.source == "source/orders") == 2

        await until(summed, "the refused rows in the summaries of quality")
    letters = await house.letters()
    assert [(one["reason"], one["field"], one["place"].split("/")[:2]) for one in letters] == [
        ("missing: is missing", "customer", ["source", "orders 2"]),
        ("malformed: holds bytes, for which JSON has no form", "note", ["source", "orders 3"])]
    assert (found["events"], found["refused"]) == (2, 2)


async def test_a_query_is_wrapped_and_columns_are_renamed(house: House, table: Table) -> None:
    table.add(1, 2, 3)
    async with living(house):
        await house.apply(pulling(sql(
            table=None, query="select id, customer, price * 2 as twice from orders where id <> 2",
            rename={"id": "order", "twice": "price"})))
        found = await pulled(house, 2)
    assert sorted((one["order"], one["price"]) for one in found) == [(1, 3.0), (3, 3.0)]


async def test_what_fails_is_said_without_the_url_and_mends_itself(
        house: House, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE)
    async with living(house) as service:
        await house.apply(pulling(sql(table="nowhere")))
        found = await standing(house, "orders", state="failing")
        assert found["reason"].startswith(f"the environment variable {VARIABLE} is not set here")
        assert "pull shop/orders" in str(service.health.report()["notes"])
        assert service.health.ready
        monkeypatch.setenv(VARIABLE, table.url)
        found = await standing(house, "orders", reason="there is no table nowhere; field: table")
        assert table.url not in str(found)
        table.run("alter table orders rename to nowhere")
        table.run("insert into nowhere values (1, 'c', null, 1, 'x')")
        await pulled(house, 1)
        assert (await standing(house, "orders", state="following"))["reason"] == ""
        assert service.health.report()["notes"] == {}


async def test_what_one_transaction_commits_between_two_queries_is_read_whole(table: Table) -> None:
    table.run("pragma journal_mode=wal")
    table.add(1)
    origin = SqlOrigin(SqlSource(name="orders", url_from=VARIABLE, table="orders", cursor="id"), table.url)
    await origin.open({})
    read = await origin.read({})
    later = iter([["insert into orders select 1, 'c', at, price, 'late' from orders",
                   "insert into orders select 2, 'c', at, price, 'beyond' from orders limit 1"]])

    def between(*_: object) -> None:
        with closing(sqlite3.connect(table.path)) as connection:
            for statement in next(later, []):
                connection.execute(statement)
            connection.commit()
    sqlalchemy.event.listen(sqlalchemy.Engine, "after_cursor_execute", between)
    try:
        found: list[list[object]] = []
        for _ in range(3):
            read = await origin.read(read.cursor)
            found.append([item.values["note"] for item in read.items if isinstance(item, Row)])
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "after_cursor_execute", between)
        await origin.close()
    assert found == [["late"], ["beyond"], []]
