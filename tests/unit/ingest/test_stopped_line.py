"""A line that stopped because too much was refused: by the pipeline's own limit, and on again when somebody says so."""

from typing import Any

from lepton.contracts import codec
from lepton.contracts.pb.recovery_pb2 import (
    RECOVERY_ACTION_PAUSE,
    RECOVERY_ACTION_RESUME,
    RECOVERY_OUTCOME_DONE,
    RecoveryAction,
    RecoveryResult,
)
from lepton.contracts.pb.telemetry_pb2 import Telemetry
from lepton.contracts.topics import Topic
from lepton.runtime.service import Service
from tests.unit.ingest.house import House, accepted, living, until
from tests.unit.ingest.samples import order, pipeline

LIMITED = ("dedupe_window: 1000", "dedupe_window: 1000\n  dead_letter_limit: 5")


async def stopped(service: Service) -> None:
    async def not_ready() -> bool:
        return "more than 5 records" in str(service.health.failing())

    await until(not_ready, "the line to stop")


async def resume(house: House, command_id: str = "c-1",
                 action: RecoveryAction.ValueType = RECOVERY_ACTION_RESUME) -> RecoveryResult:
    before = len(await house.read(Topic.RECOVERY_RESULTS))
    await house.command(action, "", command_id=command_id, signer="operator", fence=0)

    async def answered() -> Any:
        found = await house.read(Topic.RECOVERY_RESULTS)
        return found if len(found) > before else None

    found = await until(answered, "an answer")
    return codec.decode_as(Topic.RECOVERY_RESULTS, RecoveryResult, found[-1].value or b"")


async def test_the_pipelines_own_limit_stops_its_line_and_a_command_lets_it_go_on(house: House) -> None:
    async with living(house) as service:
        await house.apply(pipeline(LIMITED))
        await house.send(order(1))
        await accepted(house, 1)
        await house.send(*[b"x"] * 8, order(2))
        await stopped(service)
        assert await house.letters() == []

        async def said() -> bool:
            beats = [codec.decode_as(Topic.TELEMETRY, Telemetry, one.value or b"")
                     for one in await house.read(Topic.TELEMETRY)]
            return any(why.startswith("line_stopped: more than 5 records")
                       for beat in beats for why in beat.failing_checks.values())

        await until(said, "a heartbeat that says so")
        result = await resume(house)
        assert (result.outcome, result.evidence) == (RECOVERY_OUTCOME_DONE, "the line of pipeline shop goes on")
        assert [row["_event_id"] for row in await accepted(house, 2)] == ["o-1", "o-2"]
        assert len(await house.letters()) == 8

        async def ready() -> bool:
            return service.health.ready

        await until(ready, "the instance to be ready again")
        await house.send(order(3))
        await accepted(house, 3)


async def test_events_of_every_partition_are_there_once_after_a_stop(house: House) -> None:
    async with living(house) as service:
        await house.apply(pipeline(LIMITED))
        for number in range(40):
            await house.send(order(number), partition=number % 2)
        await accepted(house, 40)
        await house.send(*[b"x"] * 6, partition=1)
        await stopped(service)
        for number in range(40, 80):
            await house.send(order(number), partition=number % 2)
        await resume(house)
        ids = [row["_event_id"] for row in await accepted(house, 80)]
        assert sorted(ids) == sorted(f"o-{number}" for number in range(80))


async def test_a_line_that_moves_is_told_so_and_an_old_command_does_nothing_after_a_restart(house: House) -> None:
    async with living(house):
        await house.apply(pipeline(LIMITED))
        await house.send(order(1))
        await accepted(house, 1)
        assert (await resume(house)).evidence == "the line of pipeline shop did not stand still here"
    async with living(house) as service:
        await house.send(*[b"x"] * 6)
        await stopped(service)
        assert await house.letters() == []


async def test_other_pipelines_keep_the_limit_of_their_topic(house: House) -> None:
    async with living(house) as service:
        await house.apply(pipeline())
        await house.send(*[b"x"] * 50, order(1))
        await accepted(house, 1)
        assert service.health.ready


async def test_a_paused_pipeline_takes_nothing_in_over_a_restart_and_nothing_is_lost(house: House) -> None:
    async with living(house) as service:
        await house.apply(pipeline())
        await house.send(order(1))
        await accepted(house, 1)
        paused = await resume(house, "c-1", RECOVERY_ACTION_PAUSE)
        assert (paused.outcome, paused.evidence) == (RECOVERY_OUTCOME_DONE, "pipeline shop is paused")
        await house.send(order(2), order(3))

        async def said() -> bool:
            beats = [codec.decode_as(Topic.TELEMETRY, Telemetry, one.value or b"")
                     for one in await house.read(Topic.TELEMETRY)]
            return any(one.name == "lepton_ingest_paused" and one.value == 1 and one.attributes["pipeline"] == "shop"
                       for beat in beats for one in beat.measurements)

        await until(said, "a heartbeat that says so")
        assert service.health.ready
    async with living(house) as service:
        assert (await resume(house, "c-2", RECOVERY_ACTION_PAUSE)).evidence.endswith("is paused, as it was before")
        assert len(await house.rows()) == 1
        assert (await resume(house, "c-3")).evidence == "the line of pipeline shop goes on"
        assert [row["_event_id"] for row in await accepted(house, 3)] == ["o-1", "o-2", "o-3"]
        assert "paused" not in str(service.health.failing())


async def test_events_of_every_partition_are_there_once_after_pauses_under_load(house: House) -> None:
    async with living(house):
        await house.apply(pipeline())
        for number in range(120):
            await house.send(order(number), partition=number % 2)
            if number % 40 == 10:
                await resume(house, f"p-{number}", RECOVERY_ACTION_PAUSE)
            if number % 40 == 30:
                await resume(house, f"r-{number}")
        ids = [row["_event_id"] for row in await accepted(house, 120)]
        assert sorted(ids) == sorted(f"o-{number}" for number in range(120))
