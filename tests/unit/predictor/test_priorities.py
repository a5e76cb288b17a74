"""Over either door: urgent requests run first, impatient ones end in time, a quiet model answers beside a busy one."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from lepton.contracts.pb import grpc_service_pb2 as oip
from services.predictor.core.session import Session
from tests.harness.onnx_models import Linear
from tests.harness.wait import apoll_until
from tests.unit.predictor.conftest import Gate
from tests.unit.predictor.test_wire import by_wire, known, numbers, raw
from tests.unit.predictor.world import World, status, world

ONE = {"amount": "float"}
HEAVY = {"heavy": "float"}
ROWS = 32
"""With `hidden` layers enough for a thread."""


class Recorder(Gate):
    """Holds runs of models with the field `heavy` while it is closed; `firsts` are the first values of each."""

    def __init__(self) -> None:
        super().__init__()
        self.firsts: list[float] = []


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    recorder, run = Recorder(), Session.run

    def held(session: Session, arrays: Any) -> Any:
        if "heavy" in arrays:
            recorder.firsts.append(float(arrays["heavy"][0]))
            recorder.pass_through()
        return run(session, arrays)

    monkeypatch.setattr(Session, "run", held)
    yield recorder
    recorder.open()


def heavy(value: float, **wishes: int) -> oip.ModelInferRequest:
    request = raw("slow", *[value] * ROWS)
    request.inputs[0].name = "heavy"
    for name, wish in wishes.items():
        request.parameters[name].int64_param = wish
    return request


async def _ask(here: World, request: oip.ModelInferRequest) -> list[float]:
    return numbers(await here.stub.ModelInfer(request, metadata=here.metadata))


async def _slow(here: World, **batching: int) -> None:
    """Nobody is refused for how long it would wait: runs are held back, and how fast they are must not matter."""
    await here.registry.apply("slow", HEAVY, batching={"max_rows": ROWS, "max_wait_ms": 60_000, **batching})
    await here.registry.publish("slow", Linear(HEAVY, hidden=1024))

    async def answers() -> bool:
        index = await here.stub.RepositoryIndex(oip.RepositoryIndexRequest(ready=True), metadata=here.metadata)
        return bool(index.models)
    await apoll_until(answers, "the model to answer")


async def test_urgent_requests_run_before_others_that_came_earlier(tmp_path: Path, recorder: Recorder,
                                                                    door: str) -> None:
    async with world(tmp_path) as here:
        await _slow(here, priority_levels=3, default_priority=2)
        for _ in range(3):
            await _ask(here, heavy(0.0))
        # One queue alone can keep an order, so the native door leaves such a model to the Python door.
        assert by_wire(here, "slow") == 0
        recorder.close()
        calls = [asyncio.ensure_future(_ask(here, heavy(1.0)))]
        await recorder.holds()
        for number, (value, priority) in enumerate(((2.0, 3), (3.0, 0), (4.0, 1), (5.0, 2)), 1):
            calls.append(asyncio.ensure_future(_ask(here, heavy(value, priority=priority))))
            await here.metric(f"lepton_predictor_waiting_rows {float(number * ROWS)}")
        recorder.firsts.clear()
        recorder.open()
        assert await asyncio.gather(*calls) == [[value] * ROWS for value in (1.0, 2.0, 3.0, 4.0, 5.0)]
        assert recorder.firsts == [4.0, 3.0, 5.0, 2.0]


async def test_a_request_ends_when_it_waited_longer_than_it_would(tmp_path: Path, recorder: Recorder,
                                                                  door: str) -> None:
    async with world(tmp_path) as here:
        await _slow(here, priority_levels=1)
        recorder.close()
        first = asyncio.ensure_future(_ask(here, heavy(1.0)))
        await recorder.holds()
        impatient = asyncio.ensure_future(status(
            here.stub.ModelInfer(heavy(2.0, timeout=1), metadata=here.metadata)))
        patient = asyncio.ensure_future(_ask(here, heavy(3.0, timeout=10**9)))
        await here.metric(f"lepton_predictor_waiting_rows {2.0 * ROWS}")
        recorder.open()
        code, said = await impatient
        assert (code, "before the request could run" in said) == (grpc.StatusCode.DEADLINE_EXCEEDED, True)
        assert list(await asyncio.gather(first, patient)) == [[1.0] * ROWS, [3.0] * ROWS]
        assert 2.0 not in recorder.firsts
        code, said = await status(here.stub.ModelInfer(heavy(1.0, priority=-1), metadata=here.metadata))
        assert (code, "priority" in said) == (grpc.StatusCode.INVALID_ARGUMENT, True)


async def test_a_quiet_model_is_answered_while_a_busy_one_has_a_full_queue(tmp_path: Path, recorder: Recorder,
                                                                           door: str) -> None:
    async with world(tmp_path) as here:
        await _slow(here)
        await here.registry.publish("tiny", Linear(ONE))
        await here.serving("tiny", 1)
        await known(here, door, raw("tiny", 1.0), heavy(0.0))
        recorder.close()
        calls = [asyncio.ensure_future(_ask(here, heavy(float(number)))) for number in range(20)]
        await recorder.holds()
        for number in range(50):
            assert await _ask(here, raw("tiny", float(number))) == [float(number)]
        assert not any(call.done() for call in calls)
        recorder.open()
        assert await asyncio.gather(*calls) == [[float(number)] * ROWS for number in range(20)]
