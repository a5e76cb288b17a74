"""`lepton audit` in front of a whole gateway: one chain over restarts, and what was changed in the log is named."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from errno import ENOSPC
from pathlib import Path

import pytest
import pytest_asyncio
from typer.testing import CliRunner

from lepton.bus.commands.auditing import FIRST_LOOK, audit_chain, last_of
from lepton.bus.inside.group import MemoryReader
from lepton.bus.memory import MemoryBroker
from lepton.bus.producer import Producer
from lepton.bus.records import Outgoing, Place, Record, TopicPlan
from lepton.clock import SystemClock
from lepton.contracts import topics
from lepton.contracts.auditing.chain import digest
from lepton.contracts.pb.incidents_pb2 import AuditRecord
from lepton.contracts.topics import Topic
from lepton.errors import Invalid, Missing, Unavailable
from lepton_ai.cli.app import app
from lepton_ai.cli.audit import commands
from tests.harness.bus import read_all
from tests.unit.gateway.house import House, open_house
from tests.unit.lepton_ai.files.desk import lepton


@pytest_asyncio.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """A gateway that was started twice on one bus, and recorded something each time."""
    async with open_house(tmp_path / "house") as first:
        await first.apply()
        await first.with_scopes("read")
    async with open_house(tmp_path / "house", first.broker, first.database) as second:
        await second.with_scopes("write")
        yield second


@pytest_asyncio.fixture
async def broker() -> MemoryBroker:
    broker = MemoryBroker()
    await broker.create_topics([TopicPlan(*plan) for plan in topics.plans()])
    return broker


def log(house: House) -> list[Record]:
    return house.broker.topic(Topic.AUDIT).logs[0].records


async def recorded(broker: MemoryBroker) -> list[AuditRecord]:
    return [AuditRecord.FromString(one.value or b"") for one in await read_all(broker, topics.name(Topic.AUDIT))]


async def page_by_page(house: House) -> None:
    """The log is read in pages, and by admins only."""
    page = (await house.admin.get("/v1/audit", params={"from": 0, "limit": 2})).json()
    assert ([one["offset"] for one in page["records"]], page["next"], page["end"]) == ([0, 1], 2, 3)
    page = (await house.admin.get("/v1/audit", params={"from": 2, "limit": 2})).json()
    assert ([one["offset"] for one in page["records"]], page["next"], page["begin"]) == ([2], 3, 0)
    reader = await house.with_scopes("read", "write", "train")
    assert (await reader.get("/v1/audit")).status_code == 403


async def test_a_chain_goes_on_over_a_restart_and_holds(
        house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "PAGE", 2)
    done = await lepton(house, "audit", "verify", "--save", str(tmp_path / "heads"))
    assert done.code == 0, done.err
    assert "3 records of 1 writers: every chain holds" in done.out
    heads = json.loads((tmp_path / "heads").read_text())
    assert (heads["gateway"]["sequence"], heads["gateway"]["offset"]) == (3, 2)
    assert heads["gateway"]["hash"] in done.out
    told = await lepton(house, "audit", "verify", "--heads", str(tmp_path / "heads"), "--save", str(tmp_path / "new"),
                        "-o", "json")
    assert [one["head"] for one in json.loads(told.out)] == [heads["gateway"]["hash"]]
    assert json.loads((tmp_path / "new").read_text()) == heads
    listed = json.loads((await lepton(house, "audit", "list", "-n", "2", "-o", "json")).out)
    assert [(one["sequence"], one["action"]) for one in listed] == [(3, "key.create"), (2, "key.create")]
    await page_by_page(house)


async def test_what_was_altered_dropped_or_cut_off_is_named_with_exit_code_1(house: House, tmp_path: Path) -> None:
    assert (await lepton(house, "audit", "verify", "--save", str(tmp_path / "heads"))).code == 0
    whole = list(log(house))
    other = AuditRecord.FromString(whole[1].value or b"")
    other.actor = "somebody-else"
    log(house)[1] = whole[1]._replace(value=other.SerializeToString(deterministic=True))
    done = await lepton(house, "audit", "verify")
    assert done.code == 1 and "gateway: sequence 2, offset 1: sequence 3" in done.err
    log(house)[:] = [whole[0], whole[2]]
    done = await lepton(house, "audit", "verify")
    assert done.code == 1 and "gateway: sequence 2, offset 2: missing" in done.err
    assert (await lepton(house, "audit", "verify", "--from", "2")).code == 0, "what is before is not checked"
    log(house)[:] = whole[:2]
    assert (await lepton(house, "audit", "verify")).code == 0, "an end does not tell that more followed"
    done = await lepton(house, "audit", "verify", "--heads", str(tmp_path / "heads"))
    assert done.code == 1 and "cut off" in done.err
    kept = json.loads((tmp_path / "heads").read_text())["gateway"]["hash"]
    assert (await lepton(house, "audit", "verify", "--head", f"gateway={kept}")).code == 1


async def test_a_log_that_was_emptied_in_front_of_the_kept_heads_does_not_hold(
        house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heads = tmp_path / "heads"
    assert (await lepton(house, "audit", "verify", "--save", str(heads))).code == 0
    kept = heads.read_text()
    log(house).clear()

    async def emptied(_: object, places: Sequence[Place]) -> Mapping[Place, int]:
        return dict.fromkeys(places, 3)

    monkeypatch.setattr(MemoryReader, "begin_offsets", emptied)
    for form in ("table", "json"):
        done = await lepton(house, "audit", "verify", "--heads", str(heads), "--save", str(heads), "-o", form)
        assert done.code == 1 and "gateway: its kept head" in done.err and "not checked" in done.err
        assert "every chain holds" not in done.out
    done = await lepton(house, "audit", "verify", "--head", f"gateway={json.loads(kept)['gateway']['hash']}")
    assert done.code == 1 and "was not met" in done.err and "cut off" not in done.err
    assert heads.read_text() == kept
    done = await lepton(house, "audit", "verify", "--heads", str(heads), "--save", str(heads), "--from", "3")
    assert done.code == 0 and "not checked" in done.err and "nothing to check" in done.out
    assert heads.read_text() == kept, "what was not seen is still to be looked for"


async def test_of_a_part_of_the_log_no_kept_head_is_lost(house: House, tmp_path: Path) -> None:
    heads, old = tmp_path / "heads", {"gateway": {"sequence": 1, "offset": 0, "hash": "ab" * 32},
                                      "watchdog": {"sequence": 4, "offset": 1, "hash": "cd" * 32}}
    heads.write_text(json.dumps(old))
    done = await lepton(house, "audit", "verify", "--heads", str(heads), "--save", str(heads), "--from", "2", "-o",
                        "json")
    assert done.code == 0 and done.err.count("not checked") == 2
    assert json.loads(heads.read_text()) == old
    done = await lepton(house, "audit", "verify", "--from", "4")
    assert done.code == 1 and "ends before" in done.err
    assert (await lepton(house, "audit", "verify", "--from", "3")).code == 0


async def test_heads_that_cannot_be_written_leave_those_of_before(
        house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heads = tmp_path / "heads"
    heads.write_text("before")
    write = Path.write_text

    def full(path: Path, text: str, *more: str) -> int:
        write(path, text[:5], *more)
        raise OSError(ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    done = await lepton(house, "audit", "verify", "--save", str(heads))
    assert done.code == 1 and "No space left" in done.err
    assert heads.read_text() == "before" and not (tmp_path / "heads.new").exists()


def test_heads_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="'abc' is no SHA-256"):
        CliRunner().invoke(app, ["audit", "verify", "--head", "gateway=abc"], catch_exceptions=False)
    (tmp_path / "heads").write_text('{"gateway": 3}')
    with pytest.raises(Invalid, match="no file of heads"):
        CliRunner().invoke(app, ["audit", "verify", "--heads", str(tmp_path / "heads")], catch_exceptions=False)


async def test_an_own_record_is_found_behind_many_of_others(broker: MemoryBroker) -> None:
    producer = Producer(broker, "a")
    chain = audit_chain(broker, producer, "a", SystemClock())
    await chain.start()
    await chain.record("anna", "key.create", "k")
    writer = broker.writer("b")
    await writer.send_all([Outgoing(topics.name(Topic.AUDIT), b"", b"b")] * (FIRST_LOOK * 3))
    assert (await last_of(broker, "a")).sequence == 1
    assert (await last_of(broker, "a", look_back=100)).sequence == 0


@pytest.mark.parametrize("foreign", [b"", AuditRecord(writer="b", sequence=7).SerializeToString(),
                                     AuditRecord(writer="a", sequence=2**64 - 1).SerializeToString(), b"\xff\xff"])
async def test_what_somebody_else_wrote_under_its_key_neither_leads_a_chain_on_nor_ends_it(
        broker: MemoryBroker, foreign: bytes) -> None:
    chain = audit_chain(broker, Producer(broker, "a"), "a", SystemClock())
    await chain.start()
    await chain.record("anna", "key.create", "k")
    await broker.writer("b").send_all([Outgoing(topics.name(Topic.AUDIT), foreign, b"a")])
    chain = audit_chain(broker, Producer(broker, "a"), "a", SystemClock())
    await chain.start()
    await chain.record("anna", "key.create", "l")
    values = [one.value or b"" for one in await read_all(broker, topics.name(Topic.AUDIT))]
    last = AuditRecord.FromString(values[-1])
    assert (last.sequence, last.previous_hash) == (2, digest(values[0]))


async def test_after_a_write_whose_answer_was_lost_the_topic_tells_where_the_chain_goes_on(
        broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    producer = Producer(broker, "a")
    chain = audit_chain(broker, producer, "a", SystemClock())
    await chain.start()
    send = producer.send

    async def lost(*arguments: object, **options: object) -> Record:
        await send(*arguments, **options)  # type: ignore[arg-type]
        raise Unavailable("no answer")

    async def abandoned(*arguments: object, **options: object) -> Record:
        await send(*arguments, **options)  # type: ignore[arg-type]
        raise asyncio.CancelledError

    for failing in (lost, abandoned):
        monkeypatch.setattr(producer, "send", failing)
        with pytest.raises((Unavailable, asyncio.CancelledError)):
            await chain.record("anna", "key.create", "k")
        monkeypatch.setattr(producer, "send", send)
        await chain.record("anna", "key.revoke", "k")
    assert [one.sequence for one in await recorded(broker)] == [1, 2, 3, 4]


async def test_without_the_topic_a_writer_does_not_start() -> None:
    broker = MemoryBroker()
    with pytest.raises(Missing, match="lepton-audit"):
        await audit_chain(broker, Producer(broker, "a"), "a", SystemClock()).start()
