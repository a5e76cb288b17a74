"""The real process obeys signed commands, and so does the one after it: a field quarantined, a pipeline paused."""

import signal
from typing import Any

import pytest

from lepton.contracts import codec
from lepton.contracts.pb.recovery_pb2 import (
    RECOVERY_ACTION_PAUSE,
    RECOVERY_ACTION_QUARANTINE,
    RECOVERY_ACTION_RESTORE,
    RECOVERY_ACTION_RESUME,
    RecoveryResult,
)
from lepton.contracts.topics import Topic
from tests.integration.ingest.place import DRAIN_S, Place, ended, rows
from tests.unit.ingest.house import until
from tests.unit.ingest.samples import order, pipeline

pytestmark = [pytest.mark.kafka, pytest.mark.mongo, pytest.mark.process]

# Two processes start one after the other, on a machine that may have much else to do.
LONG_S = 240.0


async def evidence(place: Place, command_id: str) -> str:
    async def answered() -> Any:
        told = [codec.decode_as(Topic.RECOVERY_RESULTS, RecoveryResult, one.value or b"")
                for one in await place.house.read(Topic.RECOVERY_RESULTS)]
        return next((one.evidence for one in told if one.command_id == command_id), "")

    try:
        return str(await until(answered, f"an answer to {command_id}", LONG_S))
    except AssertionError as error:
        raise AssertionError(f"{error}; it said: {place.said()}") from error


async def test_a_field_stays_out_and_a_pipeline_paused_over_a_kill_and_nothing_is_lost(place: Place) -> None:
    house = place.house
    name = house.name
    await house.apply(pipeline(("name: shop", f"name: {name}")), partitions=1)
    with place.ingest("first") as process:
        await house.send(order(1, weight=1.0))
        assert [row["weight"] for row in await rows(place, 1, LONG_S)] == [1.0]
        await house.command(RECOVERY_ACTION_QUARANTINE, "", command_id=f"{name}-1", arguments={"field": "weight"})
        assert await evidence(place, f"{name}-1") == f"field weight of pipeline {name} is quarantined"
        await house.send(order(2, weight="heavy"))
        assert [row["weight"] for row in await rows(place, 2, LONG_S)] == [1.0, None]
        await house.command(RECOVERY_ACTION_PAUSE, "", command_id=f"{name}-2")
        assert await evidence(place, f"{name}-2") == f"pipeline {name} is paused"
        await house.send(*(order(number, weight=3.0) for number in range(3, 103)))
        process.send_signal(signal.SIGKILL)
        assert await ended(process, 10) == -signal.SIGKILL

    with place.ingest("second") as process:
        await house.command(RECOVERY_ACTION_PAUSE, "", command_id=f"{name}-3")
        assert (await evidence(place, f"{name}-3")).endswith("is paused, as it was before")
        assert len(await house.rows()) == 2
        await house.command(RECOVERY_ACTION_RESUME, "", command_id=f"{name}-4")
        found = await rows(place, 102, LONG_S)
        assert [row["_event_id"] for row in found] == [f"o-{number}" for number in range(1, 103)]
        assert {row["weight"] for row in found[1:]} == {None}
        await house.command(RECOVERY_ACTION_RESTORE, "", command_id=f"{name}-5", arguments={"field": "weight"})
        assert await evidence(place, f"{name}-5") == f"field weight of pipeline {name} is accepted"
        await house.send(order(103, weight=4.0))
        assert (await rows(place, 103, LONG_S))[-1]["weight"] == 4.0
        process.send_signal(signal.SIGTERM)
        assert await ended(process, DRAIN_S + 4) == 0, place.said()
