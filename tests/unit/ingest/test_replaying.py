"""Dead letters go back by a signed command, once, by one process; those that could only be refused again stay."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lepton.contracts.pb.recovery_pb2 import (
    RECOVERY_ACTION_QUARANTINE,
    RECOVERY_ACTION_REPLAY_DEAD_LETTERS,
    RECOVERY_ACTION_RESTORE,
    RECOVERY_OUTCOME_DONE,
    RECOVERY_OUTCOME_REFUSED,
)
from lepton.contracts.topics import Topic
from tests.unit.ingest.house import House, accepted, living, until
from tests.unit.ingest.samples import order, pipeline
from tests.unit.ingest.test_recovery import TILL, known, results

REPLAY = RECOVERY_ACTION_REPLAY_DEAD_LETTERS


async def letters(house: House, count: int) -> None:
    async def enough() -> bool:
        return sum("reason" in one for one in await house.letters()) >= count

    await until(enough, f"{count} letters")


def ago(seconds: float) -> str:
    return str((datetime.now(UTC) - timedelta(seconds=seconds)).timestamp())


async def test_letters_of_a_mended_pipeline_go_back_once_whoever_hears_the_command_again(house: House) -> None:
    async with living(house):
        await known(house)
        await house.send(order(1, price=5000.0), order(2, price=6000.0))
        await letters(house, 2)
        await house.apply(pipeline(("[0, 1000]", "[0, 5500]")), version=2)
        first = await house.command(REPLAY, "", command_id="c-1", arguments={"since": ago(60), "until": ago(-60)})
        (done,) = await results(house)
        assert (done.outcome, done.executor, done.evidence, done.incident_id) == (
            RECOVERY_OUTCOME_DONE, "ingest", "2 dead letters of pipeline shop went back", "i-1")
        assert [row["_event_id"] for row in await accepted(house, 2)] == ["o-first", "o-1"]
        # What is still refused is a letter again, which no command sends back another time.
        await letters(house, 3)
        await house.write(Topic.RECOVERY_COMMANDS, first, first.target)
        await house.command(REPLAY, "", command_id="c-2")
        assert [one.evidence for one in await results(house, 3)] == [
            done.evidence, done.evidence, "0 dead letters of pipeline shop went back"]


async def test_letters_of_a_quarantined_source_stay_until_it_is_restored(house: House) -> None:
    async with living(house):
        await known(house)
        await house.command(RECOVERY_ACTION_QUARANTINE, "till", command_id="c-1")
        await results(house)
        await house.send(order(1), headers=TILL)
        await letters(house, 1)
        await house.command(REPLAY, "", command_id="c-2")
        assert (await results(house, 2))[1].evidence == (
            "0 dead letters of pipeline shop went back; those of till stay, quarantined")
        await house.command(RECOVERY_ACTION_RESTORE, "till", command_id="c-3")
        await results(house, 3)
        await house.command(REPLAY, "till", command_id="c-4", signer="operator", fence=0)
        assert (await results(house, 4))[3].evidence == "1 dead letters of pipeline shop went back"
        assert [row["_event_id"] for row in await accepted(house, 2)] == ["o-first", "o-1"]


@pytest.mark.parametrize(("changes", "why"), [
    ({"arguments": {"limit": "0"}}, "limit"),
    ({"arguments": {"since": "yesterday"}}, "seconds since the epoch"),
    ({"arguments": {"colour": "red"}}, "colour is no argument"),
    ({"target": "pipeline:other"}, "no pipeline other"),
    ({"expires_in_s": -30}, "expired"),
])
async def test_a_command_that_makes_no_sense_is_refused_with_the_reason(
        house: House, changes: dict[str, Any], why: str) -> None:
    async with living(house):
        await known(house)
        await house.command(REPLAY, "", **changes)
        (refused,) = await results(house)
        assert refused.outcome == RECOVERY_OUTCOME_REFUSED
        assert why in refused.evidence


async def test_a_command_nobody_vouches_for_is_a_dead_letter_and_is_not_answered(house: House) -> None:
    async with living(house):
        await known(house)
        await house.send(order(1, price=5000.0))
        await letters(house, 1)
        await house.command(REPLAY, "", signer="trainer", command_id="c-1")
        await house.command(REPLAY, "", command_id="c-2", arguments={"limit": "1"})
        (only,) = await results(house)
        assert (only.command_id, only.evidence) == (
            "c-2", "1 dead letters of pipeline shop went back; there may be more than the 1 of one command")


