"""A source is quarantined by a signed command, stays so over a restart, and is restored by another."""

from typing import Any

import pytest

from lepton.contracts import codec
from lepton.contracts.pb.quality_pb2 import QualitySummary
from lepton.contracts.pb.recovery_pb2 import (
    RECOVERY_ACTION_QUARANTINE,
    RECOVERY_ACTION_RESTART,
    RECOVERY_ACTION_RESTORE,
    RECOVERY_OUTCOME_DONE,
    RECOVERY_OUTCOME_FAILED,
    RECOVERY_OUTCOME_REFUSED,
    RecoveryResult,
)
from lepton.contracts.topics import Topic
from lepton.errors import Busy, Invalid, LeptonError, Missing, Refused, Unavailable
from services.ingest.edge.errors import ANSWERS, FATES, Fate, answer
from tests.unit.ingest.house import House, accepted, living, until
from tests.unit.ingest.samples import order, pipeline

TILL = (("ce_source", b"till"),)


async def results(house: House, count: int = 1) -> list[RecoveryResult]:
    async def enough() -> Any:
        found = await house.read(Topic.RECOVERY_RESULTS)
        return found if len(found) >= count else None

    found = await until(enough, f"{count} results")
    return [codec.decode_as(Topic.RECOVERY_RESULTS, RecoveryResult, one.value or b"") for one in found]


async def known(house: House) -> None:
    """The pipeline is applied and its work goes on."""
    await house.apply(pipeline())
    await house.send(order("first"))
    await accepted(house, 1)


async def test_a_quarantined_sources_events_are_dead_letters_until_it_is_restored(house: House) -> None:
    async with living(house):
        await known(house)
        await house.command(RECOVERY_ACTION_QUARANTINE, "till")
        (done,) = await results(house)
        assert (done.command_id, done.outcome, done.executor, done.incident_id) == (
            "c-1", RECOVERY_OUTCOME_DONE, "ingest", "i-1")
        assert done.evidence == "source till of pipeline shop is quarantined"
        await house.send(order(1), b"junk", headers=TILL)
        await house.send(order(2))
        assert [row["_event_id"] for row in await accepted(house, 2)] == ["o-first", "o-2"]
        assert {one["reason"] for one in await house.letters()} == {"quarantined: its source is quarantined"}
        await house.command(RECOVERY_ACTION_RESTORE, "till", command_id="c-2", signer="operator", fence=0)
        assert (await results(house, 2))[1].evidence == "source till of pipeline shop is accepted"
        await house.send(order(1), headers=TILL)
        assert (await accepted(house, 3))[-1]["_event_id"] == "o-1"


async def test_a_quarantine_survives_a_restart(house: House) -> None:
    async with living(house):
        await known(house)
        await house.command(RECOVERY_ACTION_QUARANTINE, "till")
        await results(house)
    await house.send(order(1), headers=TILL)
    async with living(house):
        await house.send(order(2))
        assert [row["_event_id"] for row in await accepted(house, 2)] == ["o-first", "o-2"]
        assert len(await house.letters()) == 1


async def test_a_quarantine_survives_the_loss_of_the_command_log(house: House) -> None:
    async with living(house):
        await known(house)
        await house.command(RECOVERY_ACTION_QUARANTINE, "till")
        await results(house)
        await house.send(order(1))
        await accepted(house, 2)
    for log in house.broker.topic("lepton-recovery-commands").logs:  # type: ignore[attr-defined]
        log.records.clear()
    async with living(house):
        await house.send(order(2), headers=TILL)
        await until(house.letters, "a dead letter")


async def test_a_command_heard_twice_changes_nothing_the_second_time(house: House) -> None:
    async with living(house):
        await known(house)
        first = await house.command(RECOVERY_ACTION_QUARANTINE, "till")
        await house.command(RECOVERY_ACTION_RESTORE, "till", command_id="c-2")
        await results(house, 2)
        await house.write(Topic.RECOVERY_COMMANDS, first, first.target)
        again = (await results(house, 3))[2]
        assert (again.outcome, again.command_id) == (RECOVERY_OUTCOME_DONE, "c-1")
        assert again == (await results(house))[0]
        await house.send(order(1), headers=TILL)
        assert len(await accepted(house, 2)) == 2


async def test_a_quarantined_field_is_missing_until_it_is_restored_over_a_restart_too(house: House) -> None:
    async with living(house):
        await known(house)
        await house.command(RECOVERY_ACTION_QUARANTINE, "", arguments={"field": "weight"})
        (done,) = await results(house)
        assert (done.outcome, done.evidence) == (RECOVERY_OUTCOME_DONE, "field weight of pipeline shop is quarantined")
        await house.send(order(1, weight="heavy", items=1))
        assert (await accepted(house, 2))[-1]["weight"] is None

        async def counted() -> bool:
            summaries = [codec.decode_as(Topic.QUALITY, QualitySummary, one.value or b"")
                         for one in await house.read(Topic.QUALITY)]
            return any(one.field == "weight" and one.invalid and one.incident_id == "i-1" and one.quarantined
                       for summary in summaries for one in summary.fields)

        await until(counted, "a summary of the field as it came")
    for log in house.broker.topic("lepton-recovery-commands").logs:  # type: ignore[attr-defined]
        log.records.clear()
    async with living(house):
        await house.send(order(2, weight=2.0))
        assert (await accepted(house, 3))[-1]["weight"] is None
        await house.command(RECOVERY_ACTION_RESTORE, "", arguments={"field": "weight"}, command_id="c-2")
        assert (await results(house, 2))[1].evidence == "field weight of pipeline shop is accepted"
        await house.send(order(3, weight=3.0))
        assert (await accepted(house, 4))[-1]["weight"] == 3.0


@pytest.mark.parametrize(("changes", "why"), [
    ({"source": ""}, "names no source and no field"),
    ({"arguments": {"field": "note"}}, "a source and a field"),
    ({"source": "", "arguments": {"field": "price"}}, "price of pipeline shop is required"),
    ({"source": "", "arguments": {"field": "colour"}}, "no field colour"),
    ({"expires_in_s": -30}, "expired"),
    ({"issued_in_s": 30}, "from the future"),
    ({"target": "pipeline:other"}, "no pipeline other"),
])
async def test_a_command_that_may_not_be_executed_is_refused_with_the_reason(
        house: House, changes: dict[str, Any], why: str) -> None:
    async with living(house):
        await known(house)
        await house.command(RECOVERY_ACTION_QUARANTINE, **({"source": "till"} | changes))
        (refused,) = await results(house)
        assert refused.outcome == RECOVERY_OUTCOME_REFUSED
        assert why in refused.evidence
        await house.send(order(1), headers=TILL)
        assert len(await accepted(house, 2)) == 2


async def test_a_command_nobody_vouches_for_has_no_effect_and_no_answer(house: House) -> None:
    async with living(house):
        await known(house)
        await house.command(RECOVERY_ACTION_QUARANTINE, "till", signer="trainer", command_id="c-8")
        command = await house.command(RECOVERY_ACTION_RESTORE, "till")
        command.action, command.command_id = RECOVERY_ACTION_QUARANTINE, "c-9"
        await house.write(Topic.RECOVERY_COMMANDS, command, command.target)
        await house.command(RECOVERY_ACTION_RESTORE, "other", command_id="c-10")
        assert [one.command_id for one in await results(house, 2)] == ["c-1", "c-10"]
        await house.send(order(1), headers=TILL)
        assert len(await accepted(house, 2)) == 2


async def test_another_command_under_a_used_id_is_refused(house: House) -> None:
    async with living(house):
        await known(house)
        await house.command(RECOVERY_ACTION_QUARANTINE, "till")
        await house.command(RECOVERY_ACTION_QUARANTINE, "web")
        assert "another command had this id" in (await results(house, 2))[1].evidence


async def test_an_older_watchdog_is_refused(house: House) -> None:
    async with living(house):
        await known(house)
        await house.command(RECOVERY_ACTION_QUARANTINE, "till", fence=5)
        await house.command(RECOVERY_ACTION_RESTORE, "till", command_id="c-2", fence=4)
        assert "lease 4 is older than 5" in (await results(house, 2))[1].evidence


async def test_commands_for_others_and_junk_are_not_answered(house: House) -> None:
    async with living(house):
        await known(house)
        await house.write(Topic.RECOVERY_COMMANDS, b"\xff\xff", "x")
        await house.command(RECOVERY_ACTION_QUARANTINE, "till", target="model:shop", command_id="c-7")
        await house.command(RECOVERY_ACTION_RESTART, "till", command_id="c-8")
        await house.command(RECOVERY_ACTION_QUARANTINE, "till")
        assert [one.command_id for one in await results(house)] == ["c-1"]


async def test_at_start_only_commands_whose_time_is_not_over_are_answered(house: House) -> None:
    await house.apply(pipeline())
    await house.command(RECOVERY_ACTION_QUARANTINE, "old", command_id="c-old", expires_in_s=-1)
    await house.command(RECOVERY_ACTION_QUARANTINE, "till", command_id="c-new")
    async with living(house):
        assert [one.command_id for one in await results(house)] == ["c-new"]
        await house.send(order(1), headers=(("ce_source", b"old"),))
        await house.send(order(2), headers=TILL)

        async def both() -> bool:
            return len(await house.letters()) == 2

        await until(both, "two dead letters")
        assert await house.rows() == []


@pytest.mark.parametrize("kind", [Invalid, Missing, Refused, Busy, Unavailable])
def test_every_outcome_has_its_fate_and_its_answer(kind: type[LeptonError]) -> None:
    waits = kind in (Busy, Unavailable)
    assert FATES[kind] is (Fate.WAIT if waits else Fate.DEAD_LETTER)
    assert ANSWERS[kind] == (RECOVERY_OUTCOME_FAILED if waits else RECOVERY_OUTCOME_REFUSED)
    assert answer(kind("x")) == ANSWERS[kind]
