"""More comes than can be answered: what would wait too long is refused at once, and the rest is answered as ever."""

import asyncio
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from lepton.clock import Clock, FakeClock
from lepton.errors import Busy
from services.predictor.core.batching.batcher import Arrays, Batcher
from services.predictor.core.batching.limits import LEAST_WAIT_S, Limits
from services.predictor.core.batching.pace import Pace
from services.predictor.core.session import Session, Timing
from services.predictor.core.signature import Feed
from tests.harness.onnx_models import Linear
from tests.harness.wait import apoll_until
from tests.unit.predictor.conftest import Gate
from tests.unit.predictor.test_wire import known, raw
from tests.unit.predictor.world import World, status, world

NEVER = float("inf")
ONE = {"amount": "float"}
ROWS = 64
FULL = [1.0] * ROWS
"""One batch."""


class Held:
    """Answers once `go` is set; `entered` tells that a batch is being run."""

    def __init__(self) -> None:
        self.entered, self.go = threading.Event(), threading.Event()

    def __call__(self, arrays: Arrays) -> Arrays:
        self.entered.set()
        self.go.wait(20)
        return {"y": arrays["x"]}


@pytest.fixture
def held() -> Iterator[Held]:
    model = Held()
    yield model
    model.go.set()


def feed(rows: int, *, priority: int = 0, patience_s: float = NEVER) -> Feed:
    return Feed({"x": np.ones(rows)}, rows, priority=priority, patience_s=patience_s)


async def busy(model: Held, limits: Limits, clock: Clock, pace: Pace) -> tuple[Batcher, asyncio.Future[Arrays]]:
    """A batcher that runs a full batch, of which nobody knows when it ends."""
    batcher = Batcher(model, limits, clock, inline_rows=0, pace=pace)
    first = batcher.submit(feed(limits.max_rows), NEVER)

    async def runs() -> bool:
        return model.entered.is_set()
    await apoll_until(runs, "the first batch to run")
    return batcher, first


async def test_what_would_wait_for_more_than_one_full_batch_is_refused(held: Held) -> None:
    batcher, first = await busy(held, Limits(max_rows=4), FakeClock(), Pace(1.0, 4.0, 4))
    waiting = [batcher.submit(feed(3), NEVER), batcher.submit(feed(1), NEVER)]
    with pytest.raises(Busy, match="8 s to wait, 4 s at most") as raised:
        batcher.submit(feed(1), NEVER)
    assert raised.value.retry_after_s == 8
    assert (batcher.counts.refused, batcher.counts.waiting_rows) == (1, 4)
    waiting[0].cancel()
    waiting.append(batcher.submit(feed(1), NEVER))
    held.go.set()
    await asyncio.gather(first, *waiting[1:])
    batcher.close()


async def test_one_request_of_many_rows_has_nobody_refused_who_runs_behind_it(held: Held) -> None:
    batcher = Batcher(held, Limits(max_rows=4), FakeClock(), inline_rows=0, pace=Pace(1.0, 4.0, 4))
    large = batcher.submit(feed(40), NEVER)
    await asyncio.to_thread(held.entered.wait, 60)
    behind = batcher.submit(feed(1), NEVER)
    held.go.set()
    await asyncio.gather(large, behind)
    batcher.close()


async def test_a_pipeline_may_say_how_long_is_too_long(held: Held) -> None:
    batcher, first = await busy(held, Limits(max_rows=4, max_wait_s=3.0), FakeClock(), Pace(1.0, 4.0, 4))
    with pytest.raises(Busy, match="4 s to wait, 3 s at most"):
        batcher.submit(feed(1), NEVER)
    batcher.limits = Limits(max_rows=4, max_wait_s=60.0)
    second = batcher.submit(feed(1), NEVER)
    held.go.set()
    await asyncio.gather(first, second)
    batcher.close()


async def test_who_could_not_be_answered_by_the_deadline_is_refused_and_who_runs_next_is_tried(held: Held) -> None:
    clock = FakeClock()
    batcher, first = await busy(held, Limits(max_rows=4), clock, Pace(1.0, 4.0, 4))
    now = clock.monotonic()
    with pytest.raises(Busy, match="has 3 s for that"):
        batcher.submit(feed(1), now + 4)
    with pytest.raises(Busy, match="has 2 s for that"):
        batcher.submit(feed(1, patience_s=2), NEVER)
    timely = batcher.submit(feed(1), now + 6)
    held.go.set()
    await asyncio.gather(first, timely)
    # Alone, it would be too late by the estimate too; that may be wrong.
    await batcher.submit(feed(4), clock.monotonic() + 0.001)
    batcher.close()


async def test_of_what_waits_only_what_runs_before_counts(held: Held) -> None:
    limits = Limits(max_rows=4, max_wait_s=5.0, priority_levels=3, default_level=2)
    batcher, first = await busy(held, limits, FakeClock(), Pace(1.0, 4.0, 4))
    middle = batcher.submit(feed(4), NEVER)
    with pytest.raises(Busy):
        batcher.submit(feed(1), NEVER)
    with pytest.raises(Busy):
        batcher.submit(feed(1, priority=3), NEVER)
    urgent = batcher.submit(feed(1, priority=1), NEVER)
    held.go.set()
    await asyncio.gather(first, middle, urgent)
    batcher.close()


async def test_a_model_of_which_nothing_is_known_refuses_nobody_for_its_time(held: Held) -> None:
    batcher, first = await busy(held, Limits(max_rows=1), FakeClock(), Pace())
    waiting = [batcher.submit(feed(1), NEVER) for _ in range(1000)]
    held.go.set()
    await asyncio.gather(first, *waiting)
    batcher.close()


def test_for_a_moment_nobody_is_refused_however_quick_the_model() -> None:
    assert Limits().wait_s(1e-4) == LEAST_WAIT_S
    assert Limits().wait_s(1.0) == 1.0
    assert Limits(max_wait_s=0.0).wait_s(1.0) == 0.0


def test_a_pace_follows_what_lasts_and_hardly_what_happens_once() -> None:
    pace = Pace(0.001, 0.064, 64)
    assert (pace.of(1), pace.of(64)) == (0.001, 0.064)
    pace.ran(64, 100.0)
    assert pace.of(64) < 0.064 * 1.4
    for _ in range(30):
        pace.ran(8, 0.08)
    assert pace.of(64) == pytest.approx(0.64, rel=0.05)
    for _ in range(30):
        pace.ran(64, 0.064)
    assert sum(pace.line) == pytest.approx(0.002, rel=0.05)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full batch takes ten seconds, the warm-up says."""
    monkeypatch.setattr(Session, "warm_up", lambda session, rows, clock: Timing(5.0, 40.0, rows))


@pytest.mark.usefixtures("slow")
async def test_each_door_refuses_at_once_what_would_wait_too_long(tmp_path: Path, door: str, gate: Gate) -> None:
    async with world(tmp_path) as here:
        await ready(here, door)
        gate.close()
        calls = [asyncio.ensure_future(answered(here)) for _ in range(12)]
        await gate.holds()

        async def refused() -> bool:
            return sum(call.done() for call in calls) >= 8
        await apoll_until(refused, "most to be refused while none is answered")
        gate.open()
        for said in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(said, grpc.aio.AioRpcError):
                assert (said.code(), "s to wait" in (said.details() or "")) == (
                    grpc.StatusCode.RESOURCE_EXHAUSTED, True)
                assert float(dict(said.trailing_metadata() or ())["retry-after-s"]) > 1
            else:
                assert said == 1.0


@pytest.mark.usefixtures("slow")
async def test_each_door_refuses_at_once_what_its_deadline_would_not_let_wait(
        tmp_path: Path, door: str, gate: Gate) -> None:
    async with world(tmp_path) as here:
        await ready(here, door)
        gate.close()
        first = asyncio.ensure_future(answered(here))
        await gate.holds()
        code, said = await status(here.stub.ModelInfer(raw("slow", *FULL), metadata=here.metadata, timeout=5))
        assert (code, "to wait, and the request" in said) == (grpc.StatusCode.RESOURCE_EXHAUSTED, True)
        gate.open()
        assert await first == 1.0


async def ready(here: World, door: str) -> None:
    """A model that needs threads answers, and the wire knows the form of its requests."""
    await here.registry.publish("slow", Linear(ONE))
    await here.serving("slow", 1)
    await known(here, door, raw("slow", *FULL))


async def answered(here: World) -> float:
    answer = await here.stub.ModelInfer(raw("slow", *FULL), metadata=here.metadata)
    return float(struct.unpack("<f", answer.raw_output_contents[0][-4:])[0])
