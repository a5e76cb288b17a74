"""One owner at a time, whatever the processes do; what changes restarts a source, and what holds one back."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lepton.bus.memory import MemoryBroker
from lepton.bus.records import Place, Record, TransactionalWriter
from lepton.contracts import topics
from lepton.contracts.pb.recovery_pb2 import RECOVERY_ACTION_QUARANTINE
from lepton.contracts.topics import Topic
from lepton.errors import Unavailable
from services.ingest.core.pulling import state as kept
from tests.unit.ingest.house import SHOP, House, accepted, living, until
from tests.unit.ingest.sources.shop import VARIABLE, Table, events, pulled, pulling, sql, standing


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Table:
    made = Table(tmp_path / "shop.db")
    monkeypatch.setenv(VARIABLE, made.url)
    return made


def writer_of(house: House, name: str = "orders") -> TransactionalWriter:
    return house.broker.transactional_writer(f"ingest.{SHOP}.source.{name}")


async def once_each(house: House, count: int) -> None:
    await pulled(house, count)
    await standing(house, "orders", state="following", events=count)
    found = Counter(one["note"] for one in await events(house))
    assert found == Counter(f"n-{number}" for number in range(count))


async def test_of_two_processes_one_pulls_and_the_other_takes_over(house: House, table: Table) -> None:
    table.add(*range(10))
    await house.apply(pulling(sql()))
    async with living(house, instance="second"):
        async with living(house, instance="first"):
            await once_each(house, 10)
            owner = (await standing(house, "orders"))["instance"]
            assert owner in ("first", "second")
        table.add(*range(10, 20))
        await once_each(house, 20)


async def test_an_owner_that_was_fenced_lets_go_and_nothing_comes_twice(house: House, table: Table) -> None:
    table.add(*range(10))
    await house.apply(pulling(sql()))
    async with living(house):
        await once_each(house, 10)
        usurper = writer_of(house)
        await usurper.start()
        table.add(*range(10, 20))
        await once_each(house, 20)


async def test_a_commit_that_failed_or_whose_end_is_unknown_is_settled_before_it_goes_on(
        tmp_path: Path, table: Table) -> None:
    troubles = ["", "before", "", "after", "before", "after"]
    house = House(tmp_path, Troubled(lambda name: troubles.pop(0) if ".source." in name and troubles else ""))
    await house.furnish()
    table.add(*range(40))
    await house.apply(pulling(sql(batch_rows=5)))
    async with living(house):
        await once_each(house, 40)
    assert troubles == []


async def test_only_a_changed_source_begins_anew(house: House, table: Table, tmp_path: Path) -> None:
    log = tmp_path / "shop.log"
    log.write_text(json.dumps({"order": "o-1", "customer": "c", "note": "n-log"}) + "\n")
    spec = [sql(), {"name": "log", "kind": "log", "path": str(log)}]
    table.add(*range(5))
    async with living(house, log_roots=str(tmp_path)) as service:
        await house.apply(pulling(*spec))
        await pulled(house, 6)
        first = loops(service)
        await house.apply(pulling(spec[0] | {"batch_rows": 3}, spec[1]), version=2)

        async def changed() -> bool:
            return loops(service).get("pull shop/orders") not in (None, first["pull shop/orders"])

        await until(changed, "the changed source to begin anew")
        table.add(5)
        await pulled(house, 7)
        assert loops(service)["pull shop/log"] is first["pull shop/log"]
        await house.apply(pulling(spec[1]), version=3)

        async def gone() -> bool:
            return "pull shop/orders" not in loops(service)

        await until(gone, "the source to end")
        # The board may still say how the source stopped before it began anew.
        assert await standing(house, "orders", state="stopped", events=6)


async def test_a_name_that_reads_from_another_place_is_refused_and_the_version_before_goes_on(
        house: House, table: Table) -> None:
    table.add(*range(3))
    async with living(house):
        await house.apply(pulling(sql()))
        await once_each(house, 3)
        await house.apply(pulling(sql(cursor="price")), version=2)
        table.add(3)
        await once_each(house, 4)


async def test_a_source_waits_while_ingest_is_behind(tmp_path: Path, table: Table) -> None:
    held = ["ingest.shop.0", "ingest.shop.1"]
    house = House(tmp_path, Troubled(lambda name: "before" if name in held else ""))
    await house.furnish()
    table.add(*range(40))
    await house.apply(pulling(sql(batch_rows=5)))
    async with living(house, source_backlog=10):
        found = await standing(house, "orders", state="waiting")
        assert found["reason"].endswith("events are not accepted yet")
        assert len(await events(house)) <= 15
        held.clear()
        await once_each(house, 40)


async def test_a_quarantined_source_is_turned_away_like_any_other(house: House, table: Table) -> None:
    async with living(house):
        await house.apply(pulling(sql()))
        await house.command(RECOVERY_ACTION_QUARANTINE, "source/orders")

        async def done() -> Any:
            return await house.read(Topic.RECOVERY_RESULTS)

        await until(done, "the quarantine")
        table.add(*range(3))
        await pulled(house, 3)

        async def letters() -> bool:
            return len(await house.letters()) == 3

        await until(letters, "dead letters of the quarantined source")
        assert await house.rows() == []


async def test_states_of_partitions_and_of_sources_do_not_disturb_each_other(house: House, table: Table) -> None:
    table.add(*range(10))
    await house.apply(pulling(sql()))
    for count in (10, 20):
        async with living(house):
            await once_each(house, count)
            await accepted(house, count)
        table.add(*range(count, count + 10))
    keys = {record.key for record in await house.read(Topic.INGEST_STATE) if record.partition == 0}
    assert keys >= {b"source/orders", b"head"}


async def test_a_reader_that_is_held_back_waits_for_the_last_commit(
        house: House, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    table.add(*range(10))
    await house.apply(pulling(sql()))
    async with living(house):
        await once_each(house, 10)
    # Somebody's open transaction hides the newest state: the offsets know better.
    place = Place(topics.name(Topic.INGEST_STATE, SHOP), 0)
    log = house.broker.log(place)  # type: ignore[attr-defined]
    newest = next(record for record in reversed(log.records) if record.key == kept.key_of("orders"))
    log.records.remove(newest)
    looks: list[str] = []
    reader = house.broker.reader

    def counted(names: Any, **how: Any) -> Any:
        looks.extend(name for name in names if name == place.topic and ".source.orders" in how["client_id"])
        return reader(names, **how)

    monkeypatch.setattr(house.broker, "reader", counted)

    async def looked_again() -> bool:
        return len(looks) > 1

    async with living(house):
        await until(looked_again, "the source to look for its state again")
        assert len(await events(house)) == 10
        log.records.append(newest)
        table.add(*range(10, 15))
        await once_each(house, 15)


@pytest.mark.parametrize(("rows_since", "expected"), [(1, range(10, 15)), (0, range(15))])
async def test_a_generation_that_keeps_the_rows_goes_on_and_another_begins_anew(
        house: House, table: Table, rows_since: int, expected: range) -> None:
    table.add(*range(10))
    async with living(house):
        await house.apply(pulling(sql()))
        await once_each(house, 10)
        await house.apply(pulling(sql()), version=2, generation=2, partitions=3, rows_since=rows_since)
        await standing(house, "orders", generation=2, state="following", cursor="9")
        table.add(*range(10, 15))
        await standing(house, "orders", generation=2, state="following", cursor="14")
        found = [json.loads(record.value or b"")["note"] for record in await house.read(Topic.EVENTS, 2)]
    assert sorted(found) == sorted(f"n-{number}" for number in expected)
    assert len(await events(house)) == 10


def loops(service: Any) -> dict[str, Any]:
    return {loop.name: loop for _, name, loop in service._started if name.startswith("pull ") and loop.running}


class Troubled(MemoryBroker):
    """Commits fail as `trouble` says of a transactional id: before they happen, or after, with nobody told."""

    def __init__(self, trouble: Callable[[str], str]) -> None:
        super().__init__()
        self._trouble = trouble

    def transactional_writer(self, transactional_id: str) -> TransactionalWriter:
        writer = super().transactional_writer(transactional_id)
        commit = writer.commit

        async def troubled(records: Any, offsets: Any, group: str) -> list[Record]:
            when = self._trouble(transactional_id)
            if when != "before":
                placed = await commit(records, offsets, group)
            if when:
                await writer.stop()
                raise Unavailable(f"cannot commit as {transactional_id}: no answer in time")
            return placed

        writer.commit = troubled  # type: ignore[method-assign]
        return writer
