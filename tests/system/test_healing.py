"""Data and models that go wrong while the platform runs: seen, acted upon, proven well again."""

import asyncio
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.harness.ledger import Tail, ids_of_features, numbered_events
from tests.harness.sensors import Sensors
from tests.harness.stack import LocalStack
from tests.harness.wait import apoll_until

pytestmark = [pytest.mark.kafka, pytest.mark.mongo, pytest.mark.process, pytest.mark.timeout(300)]


@asynccontextmanager
async def replaying(stack: LocalStack, *arguments: str) -> AsyncIterator[None]:
    """The example's replay in a process of its own, ended when the block ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "examples.phishing.replay", *arguments, env=stack.client_env, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), 20)


async def incident(stack: LocalStack, symptom: str, since: float, state: str, timeout_s: float) -> dict[str, Any]:
    """One of the example's pipeline; others have the same symptoms meanwhile."""
    async def found() -> dict[str, Any] | None:
        for candidate in await stack.get("/v1/incidents"):
            if ((candidate["symptom"], candidate["pipeline"], candidate["state"]) == (symptom, "phishing", state)
                    and stack.seconds(candidate["opened_at"]) >= since):
                return dict(candidate)
        return None

    result = await apoll_until(found, f"a {state} incident with symptom {symptom}", timeout_s, every_s=0.5)
    assert result is not None
    return result


async def test_what_breaks_of_the_data_is_kept_out_a_source_a_field_or_all_of_it(trained_stack: LocalStack) -> None:
    async with asyncio.TaskGroup() as at_once:
        at_once.create_task(a_poisoned_source_is_quarantined_and_the_healthy_one_flows_on(trained_stack))
        at_once.create_task(a_broken_field_is_taken_out_and_comes_back(trained_stack))
        at_once.create_task(a_field_under_another_name_is_told_by_both(trained_stack))
        at_once.create_task(what_is_all_broken_is_paused_and_tried_again(trained_stack))


async def a_broken_field_is_taken_out_and_comes_back(stack: LocalStack) -> None:
    sensors = Sensors(stack, f"field-{uuid.uuid4().hex[:6]}")
    async with sensors.flowing():
        await sensors.taken_in()
        sensors.spoilt = "humidity"
        seen = await sensors.incident("broken_field", "COMMANDED", "helped")
        assert (seen["cause"], seen["target"]) == (f"data:{sensors.name}/humidity", f"pipeline:{sensors.name}")
        await sensors.taken_in()
        sensors.spoilt = ""
        seen = await sensors.incident("broken_field", "VERIFIED")
        assert "humidity are as usual again" in seen["verdict"]


async def a_field_under_another_name_is_told_by_both(stack: LocalStack) -> None:
    sensors = Sensors(stack, f"schema-{uuid.uuid4().hex[:6]}")
    async with sensors.flowing():
        await sensors.taken_in()
        # Of each batch a few readings are looked at: what is usual is to be known of more than one interval.
        await sensors.flowed(400)
        await sensors.taken_in()
        sensors.renamed = "humidity"
        seen = await sensors.incident("schema_change", "ESCALATED")
        assert seen["cause"] == f"data:{sensors.name}/humidity"
        assert "humidity went, humidity_v2 came" in seen["timeline"][0]["detail"]
        assert "commanded quarantine" in {entry["what"] for entry in seen["timeline"]}
        await sensors.taken_in()
        sensors.renamed = ""
        seen = await sensors.incident("schema_change", "VERIFIED")
        assert "humidity are as usual again" in seen["verdict"]
        assert {one["symptom"] for one in await stack.get("/v1/incidents") if one["pipeline"] == sensors.name} == {
            "schema_change"}


async def what_is_all_broken_is_paused_and_tried_again(stack: LocalStack) -> None:
    sensors = Sensors(stack, f"all-{uuid.uuid4().hex[:6]}")
    async with sensors.flowing():
        await sensors.taken_in()
        sensors.spoilt = "celsius"
        seen = await sensors.incident("broken_data", "ESCALATED")
        assert f"lepton pipelines resume {sensors.name}" in seen["verdict"]
        sensors.spoilt = ""
        seen = await sensors.incident("broken_data", "VERIFIED")
        assert {"commanded pause", "commanded resume"} <= {entry["what"] for entry in seen["timeline"]}
        await sensors.taken_in()


async def a_poisoned_source_is_quarantined_and_the_healthy_one_flows_on(trained_stack: LocalStack) -> None:
    since = time.time()
    async with replaying(trained_stack, "--poison", "1.0", "--rate", "60"):
        seen = await incident(trained_stack, "broken_data", since, "VERIFIED", 60)
        assert any("quarantine" in entry["what"].lower() + entry["detail"].lower() for entry in seen["timeline"])
        assert "river/broken-sensor" in str(seen)
        prefix = f"healthy-{uuid.uuid4().hex[:6]}-"
        async with Tail(trained_stack.kafka, "lepton-features-phishing", ids_of_features, prefix) as features:
            ids = await numbered_events(trained_stack.kafka, "phishing", prefix, 50, 200)

            async def arrived() -> bool:
                await features.read()
                return not features.missing(ids)

            await apoll_until(arrived, "events of the healthy source", 20)


async def test_inverted_labels_are_blamed_on_the_labels_and_nothing_is_retrained_for_them(
        trained_stack: LocalStack) -> None:
    since = time.time()
    async with replaying(trained_stack, "--flip-labels", "--rate", "60"):
        seen = await incident(trained_stack, "bad_labels", since, "ESCALATED", 150)
    assert (seen["cause"], seen["target"]) == ("data:phishing/labels", "pipeline:phishing")
    async with replaying(trained_stack, "--rate", "60"):
        seen = await incident(trained_stack, "bad_labels", since, "VERIFIED", 150)
    assert not [entry for entry in seen["timeline"] if entry["what"].startswith("commanded")]
    assert not [one for one in await trained_stack.get("/v1/incidents") if "retrain" in str(one["timeline"])
                and since <= trained_stack.seconds(one["opened_at"]) < trained_stack.seconds(seen["closed_at"])]
