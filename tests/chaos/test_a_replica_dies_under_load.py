"""Two predictors behind the gateway, one killed, or drained and restarted, while it answers: no client sees it."""

import asyncio
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator
from itertools import islice
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.harness.ledger import phishing_rows
from tests.harness.stack import LocalStack
from tests.harness.wait import apoll_until

pytestmark = [pytest.mark.kafka, pytest.mark.mongo, pytest.mark.process, pytest.mark.timeout(240)]

REPLICAS = ("predictor-0", "predictor-1")
CALLERS = 8
ROWS = 32
ANSWERS_BEFORE, ANSWERS_AFTER = 100, 200
_ANSWERED = re.compile(r'^nv_inference_request_success\{model="phishing",version="\d+"\} (\d+)', re.MULTILINE)


async def scale(stack: LocalStack, replicas: int) -> None:
    await stack.post("/v1/recovery", {"action": "SCALE", "target": "service:predictor",
                                      "arguments": {"replicas": str(replicas)}, "cause": "a test of replicas"})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def replicas(trained_stack: LocalStack) -> AsyncIterator[LocalStack]:
    """The stack with two predictors that both serve `phishing`."""
    await scale(trained_stack, 2)

    async def both() -> bool:
        serving = {one["instance"] for one in await trained_stack.get("/v1/instances")
                   if any(served["model"] == "phishing" for served in one.get("models", []))
                   and one["state"] == "READY"}
        return set(REPLICAS) <= serving
    await apoll_until(both, "two predictors to serve", 60, every_s=0.5)
    yield trained_stack
    await scale(trained_stack, 1)

    async def one_left() -> bool:
        return trained_stack.pid("predictor-1") is None
    await apoll_until(one_left, "the second predictor to stop", 40, every_s=0.5)


async def answered(stack: LocalStack, instance: str) -> int:
    """Requests that this process answered since its versions were loaded."""
    async with httpx.AsyncClient(timeout=5) as client:
        said = await client.get(f"{stack.admin(instance)}/metrics")
    return sum(int(number) for number in _ANSWERED.findall(said.text))


class Load:
    """Callers who ask one after the other until `stop`, through both REST forms; what they were told is counted."""

    def __init__(self, stack: LocalStack) -> None:
        self._stack = stack
        self._stopped = asyncio.Event()
        self.statuses: Counter[int | str] = Counter()
        rows = list(islice(phishing_rows(), ROWS))
        self._named = {"rows": rows}
        self._tensors = {"inputs": [{"name": name, "datatype": "INT64" if isinstance(rows[0][name], int) else "FP64",
                                     "shape": [ROWS], "data": [row[name] for row in rows]} for name in rows[0]]}

    async def run(self) -> None:
        await asyncio.gather(*(self._caller(number) for number in range(CALLERS)))

    def stop(self) -> None:
        self._stopped.set()

    async def until(self, count: int) -> None:
        async def reached() -> bool:
            return self.statuses.total() >= count
        await apoll_until(reached, f"{count} answers", 60)

    async def _caller(self, number: int) -> None:
        ways: list[tuple[str, Any]] = [("/v1/models/phishing/predict", self._named),
                                       ("/v2/models/phishing/infer", self._tensors)]
        async with self._stack.rest_client() as rest:
            while not self._stopped.is_set():
                path, body = ways[number % 2]
                try:
                    self.statuses[(await rest.post(path, json=body)).status_code] += 1
                except httpx.HTTPError as error:
                    self.statuses[type(error).__name__] += 1


async def test_the_kill_of_one_of_two_predictors_under_load_fails_no_call(replicas: LocalStack) -> None:
    load = Load(replicas)
    before = {name: await answered(replicas, name) for name in REPLICAS}
    running = asyncio.create_task(load.run())
    try:
        await load.until(ANSWERS_BEFORE)
        shared = {name: await answered(replicas, name) - before[name] for name in REPLICAS}
        assert min(shared.values()) > 0, f"one predictor was not asked: {shared}"
        killed = replicas.kill("predictor-0", signal.SIGKILL)
        await load.until(load.statuses.total() + ANSWERS_AFTER)

        async def back() -> bool:
            return replicas.pid("predictor-0") not in (None, killed) and await replicas.is_ready("predictor-0")
        await apoll_until(back, "the killed predictor to be back", 60, every_s=0.5)
        await load.until(load.statuses.total() + ANSWERS_BEFORE)
    finally:
        load.stop()
        await running
    assert dict(load.statuses) == {200: load.statuses.total()}


async def test_one_of_two_predictors_is_drained_and_then_restarted_under_load_and_no_call_fails(
        replicas: LocalStack) -> None:
    load = Load(replicas)
    running = asyncio.create_task(load.run())
    try:
        await load.until(ANSWERS_BEFORE)
        left = replicas.pid("predictor-0")
        said = await replicas.lepton("services", "drain", "predictor-0", "--for", "300")
        assert "sent to predictor-0" in said
        command_id = said.split()[2]

        async def drained() -> dict[str, Any] | None:
            return next((one for one in await replicas.get("/v1/recovery") if one["command_id"] == command_id), None)
        told = await apoll_until(drained, "the drain to be answered", 60, every_s=0.5)
        assert told is not None and (told["outcome"], told["executor"]) == ("DONE", "predictor-0"), told
        assert not await replicas.is_ready("predictor-0")
        before = await answered(replicas, "predictor-0")
        await load.until(load.statuses.total() + ANSWERS_BEFORE)
        assert await answered(replicas, "predictor-0") == before, "a drained predictor was asked"
        refused = await replicas.lepton("services", "drain", "predictor-1", expect=1)
        assert "the last predictor that is ready" in refused
        await replicas.post("/v1/recovery", {"action": "RESTART", "target": "instance:predictor-0",
                                             "arguments": {"grace_s": "30"}, "cause": "a test of draining"})

        async def back() -> bool:
            return replicas.pid("predictor-0") not in (None, left) and await replicas.is_ready("predictor-0")
        await apoll_until(back, "the restarted predictor to be ready", 90, every_s=0.5)

        async def asked() -> int:
            # What was commanded before it began is not its own: it serves.
            return await answered(replicas, "predictor-0")
        await apoll_until(asked, "the restarted predictor to be asked", 60, every_s=0.25)
    finally:
        load.stop()
        await running
    assert dict(load.statuses) == {200: load.statuses.total()}
