"""Rows of entities that belong to another partition go there once, whole, in order, before anything counts here."""

import pyarrow as pa

from lepton.bus.records import partition_for
from lepton.contracts.arrow.stream import read_table
from lepton.contracts.topics import Topic
from tests.unit.ingest.arrow.streams import arrow, here, judged, orders, rows_of
from tests.unit.ingest.house import House, accepted, living
from tests.unit.ingest.samples import pipeline

SHOP = pipeline()
SPLIT = (("lepton-split-from", b"lepton-events-shop/1@0"),)


def mixed(count: int) -> pa.Table:
    """Rows of two entities of this partition and two of the other, in turn."""
    names = [here(2, 0)[0], here(2, 1)[0], here(2, 0)[1], here(2, 1)[1]]
    return orders(count, customer=[names[number % 4] for number in range(count)])


def test_rows_of_another_partition_are_sent_on_in_order_and_no_effect_of_theirs_stays() -> None:
    decided = judged(SHOP, [arrow(mixed(8))])
    assert [row["_event_id"] for row in rows_of(decided)] == ["o-0", "o-2", "o-4", "o-6"]
    ((position, stray),) = decided.strays
    assert (position, stray.partition, stray.rows) == (0, 1, 4)
    assert read_table(stray.data).to_pylist() == mixed(8).take(pa.array([1, 3, 5, 7])).to_pylist()
    assert (decided.tally.accepted, decided.tally.rejected, decided.rejections) == (4, 0, [])
    assert len(decided.plan.added) == 4


def test_a_stray_row_is_judged_where_it_belongs() -> None:
    table = orders(2, customer=here(2, 1), price=[-1.0, 1.0])
    here_decided = judged(SHOP, [arrow(table)])
    assert (here_decided.rejections, rows_of(here_decided)) == ([], [])
    ((_, stray),) = here_decided.strays
    there = judged(SHOP, [arrow(stray.data, headers=SPLIT)], partition=1)
    assert [(one.row, one.field) for one in there.rejections] == [(0, "price")]
    assert [row["_event_id"] for row in rows_of(there)] == ["o-1"]


def test_a_row_that_was_moved_and_fits_nowhere_is_refused_not_moved_again() -> None:
    decided = judged(SHOP, [arrow(mixed(4), headers=SPLIT)])
    assert decided.strays == []
    assert [(one.row, one.code, one.field) for one in decided.rejections] == [
        (1, "wrong_partition", "customer"), (3, "wrong_partition", "customer")]


def test_a_row_whose_entity_cannot_be_read_stays_and_is_refused() -> None:
    decided = judged(SHOP, [arrow(orders(2, customer=[None, here(1, 1)[0]]))])
    assert [(one.row, one.code) for one in decided.rejections] == [(0, "missing")]
    assert [stray.rows for _, stray in decided.strays] == [1]


def test_rows_are_sent_on_by_how_many_partitions_there_really_are() -> None:
    names = [f"c-{number}" for number in range(50)]
    spec = pipeline(("partitions: 2", "partitions: 7"))
    decided = judged(spec, [arrow(orders(50, customer=names))], partition=3)
    places = {stray.partition: read_table(stray.data).column("customer").to_pylist() for _, stray in decided.strays}
    assert places | {3: [row["_entity"] for row in rows_of(decided)]} == {
        place: [name for name in names if partition_for(name.encode(), 7) == place] for place in range(7)}


async def test_mixed_records_end_as_one_row_each_in_the_partition_of_their_entity(house: House) -> None:
    await house.apply(SHOP)
    async with living(house):
        for partition, start in ((0, 0), (1, 8)):
            table = mixed(8).set_column(0, "order", pa.array([f"o-{start + number}" for number in range(8)]))
            sent = arrow(table)
            await house.send(sent.value, partition=partition, headers=sent.headers, key=None)
        rows = await accepted(house, 16)
        assert sorted(str(row["_event_id"]) for row in rows) == sorted(f"o-{number}" for number in range(16))
        for one in await house.read(Topic.FEATURES):
            for row in pa.ipc.open_stream(one.value).read_all().to_pylist():
                assert partition_for(row["_entity"].encode(), 2) == one.partition
        moved = [one for one in await house.read(Topic.EVENTS) if dict(one.headers).get("lepton-split-from")]
        assert {dict(one.headers)["lepton-split-from"] for one in moved} == {
            b"lepton-events-shop/0@0", b"lepton-events-shop/1@0"}
        assert await house.letters() == []


async def test_a_refused_row_is_a_dead_letter_that_says_which_row_and_holds_it_alone(house: House) -> None:
    await house.apply(SHOP)
    sent = arrow(orders(3, price=[1.0, -1.0, 2.0]))
    async with living(house):
        await house.send(sent.value, headers=sent.headers, key=None)
        assert len(await accepted(house, 2)) == 2
        (letter,) = await house.letters()
    assert letter["place"] == "lepton-events-shop/0@0#1"
    assert (letter["field"], letter["reason"]) == ("price", "out_of_range: Expected `float` >= 0.0")
    assert letter["content-type"] == "application/json"
