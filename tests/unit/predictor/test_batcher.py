"""Requests run together without delay when idle, never past a deadline, and a failure reaches only its own batch."""

import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Callable

import numpy as np
import pytest

from lepton.clock import FakeClock
from lepton.errors import Busy, Unavailable
from services.predictor.core.batching.batcher import Arrays, Batcher
from services.predictor.core.batching.crowd import FIRST_PATIENCE, LONELY_WAITS
from services.predictor.core.batching.limits import Limits
from services.predictor.core.signature import Feed
from tests.harness.wait import apoll_until

NEVER = float("inf")
Make = Callable[..., Batcher]


def feed(*values: float) -> Feed:
    return Feed({"x": np.array(values)}, len(values))


class Model:
    """Doubles its input; remembers its batches; may be told to wait, or to fail on a value."""

    def __init__(self, poison: float | None = None) -> None:
        self.batches: list[list[float]] = []
        self.gate = threading.Event()
        self.gate.set()
        self._poison = poison

    def __call__(self, arrays: Arrays) -> Arrays:
        values = arrays["x"].tolist()
        self.batches.append(values)
        self.gate.wait(10)
        if self._poison in values:
            raise Unavailable("the model failed")
        return {"y": arrays["x"] * 2}


def test_a_model_leaves_memory_with_its_batcher_and_waits_for_no_collector() -> None:
    model = Model()
    left = weakref.ref(model)
    batcher = Batcher(model, Limits(), FakeClock(), inline_rows=1)
    batcher.close()
    gc.disable()
    try:
        del model, batcher
        assert left() is None
    finally:
        gc.enable()


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    batchers: list[Batcher] = []

    def make(model: Callable[[Arrays], Arrays], limits: Limits | None = None, *, threaded: bool = False,
             inline_rows: int = 1000, clock: FakeClock | None = None, varying: tuple[str, ...] = ()) -> Batcher:
        batchers.append(Batcher(model, limits or Limits(max_delay_s=0), clock or FakeClock(),
                                inline_rows=0 if threaded else inline_rows, varying=varying))
        return batchers[-1]

    yield make
    for batcher in batchers:
        batcher.close()


async def started(model: Model, batches: int) -> None:
    async def probe() -> bool:
        return len(model.batches) >= batches
    await apoll_until(probe, f"{batches} batches", every_s=0.001)


@pytest.mark.parametrize("threaded", [False, True])
async def test_each_request_gets_the_answers_of_its_own_rows(make: Make, threaded: bool) -> None:
    batcher = make(Model(), threaded=threaded)
    futures = [batcher.submit(feed(*range(start, start + 3)), NEVER) for start in (0, 10, 20)]
    answers = [(await future)["y"].tolist() for future in futures]
    assert answers == [[0, 2, 4], [20, 22, 24], [40, 42, 44]]


@pytest.mark.parametrize("threaded", [False, True])
async def test_a_model_runs_on_the_loop_or_beside_it(make: Make, threaded: bool) -> None:
    threads: list[int] = []

    def model(arrays: Arrays) -> Arrays:
        threads.append(threading.get_ident())
        return arrays

    await make(model, threaded=threaded).submit(feed(1), NEVER)
    assert (threads[0] == threading.get_ident()) is not threaded


async def test_a_batch_too_long_for_the_loop_runs_beside_it(make: Make) -> None:
    threads: list[int] = []

    def model(arrays: Arrays) -> Arrays:
        threads.append(threading.get_ident())
        return arrays

    batcher = make(model, inline_rows=2)
    await batcher.answer(feed(1, 2), NEVER)
    await batcher.answer(feed(1, 2, 3), NEVER)
    assert threads[0] == threading.get_ident() != threads[1]


async def test_what_arrives_in_one_turn_of_the_loop_is_one_batch(make: Make) -> None:
    model = Model()
    batcher = make(model)
    await asyncio.gather(*[batcher.submit(feed(value), NEVER) for value in (1, 2, 3)])
    assert model.batches == [[1, 2, 3]]
    assert (batcher.counts.batches, batcher.counts.rows) == (1, 3)


async def test_a_lone_request_runs_in_the_next_turn_of_the_loop(make: Make) -> None:
    clock = FakeClock()
    batcher = make(Model(), Limits(max_delay_s=60), clock=clock)
    future = batcher.submit(feed(1), NEVER)
    await asyncio.sleep(0)
    assert future.done()


async def test_what_arrives_while_the_worker_runs_is_the_next_batch(make: Make) -> None:
    model = Model()
    model.gate.clear()
    batcher = make(model, threaded=True)
    first = batcher.submit(feed(1), NEVER)
    await started(model, 1)
    rest = [batcher.submit(feed(value), NEVER) for value in (2, 3)]
    model.gate.set()
    await asyncio.gather(first, *rest)
    assert model.batches == [[1], [2, 3]]


@pytest.mark.parametrize("threaded", [False, True])
async def test_after_a_batch_with_company_the_next_waits_for_more(make: Make, threaded: bool) -> None:
    model = Model()
    batcher = make(model, Limits(max_rows=64, max_delay_s=0.05), threaded=threaded)
    await asyncio.gather(batcher.submit(feed(1), NEVER), batcher.submit(feed(2), NEVER))
    third = batcher.submit(feed(3), NEVER)
    for _ in range(5):
        await asyncio.sleep(0)
    assert not third.done()
    fourth = batcher.submit(feed(4), NEVER)
    await asyncio.gather(third, fourth)
    assert model.batches == [[1, 2], [3, 4]]


@pytest.mark.parametrize("threaded", [False, True])
async def test_waits_that_bring_no_company_end(make: Make, threaded: bool) -> None:
    model = Model()
    batcher = make(model, Limits(max_rows=64, max_delay_s=0.001), threaded=threaded)
    await asyncio.gather(batcher.submit(feed(1), NEVER), batcher.submit(feed(2), NEVER))
    for _ in range(LONELY_WAITS):
        await batcher.submit(feed(3), NEVER)
    batcher.limits = Limits(max_rows=64, max_delay_s=3600)
    await asyncio.wait_for(batcher.submit(feed(4), NEVER), 5)
    assert model.batches == [[1, 2], *[[3]] * LONELY_WAITS, [4]]


async def test_a_batch_that_fills_up_while_it_waits_runs_at_once(make: Make) -> None:
    model = Model()
    batcher = make(model, Limits(max_rows=3, max_delay_s=3600))
    await asyncio.gather(*[batcher.submit(feed(value), NEVER) for value in (1, 2, 3)])
    waiting = [batcher.submit(feed(value), NEVER) for value in (4, 5)]
    await asyncio.sleep(0)
    assert not waiting[0].done()
    await asyncio.wait_for(asyncio.gather(*waiting, batcher.submit(feed(6), NEVER)), 5)
    assert model.batches == [[1, 2, 3], [4, 5, 6]]


async def test_what_waited_behind_a_batch_waits_for_company_no_longer_than_max_delay(make: Make) -> None:
    model = Model()
    model.gate.clear()
    batcher = make(model, Limits(max_rows=64, max_delay_s=0.05), threaded=True)
    first = batcher.submit(feed(1), NEVER)
    await started(model, 1)
    second = batcher.submit(feed(2), NEVER)
    model.gate.set()
    await first
    third = batcher.submit(feed(3), NEVER)
    await asyncio.gather(second, third)
    assert model.batches == [[1], [2, 3]]


async def test_a_full_batch_does_not_wait_for_company(make: Make) -> None:
    model = Model()
    model.gate.clear()
    batcher = make(model, Limits(max_rows=2, max_delay_s=3600), threaded=True)
    first = batcher.submit(feed(1), NEVER)
    await started(model, 1)
    rest = [batcher.submit(feed(2), NEVER), batcher.submit(feed(3), NEVER)]
    model.gate.set()
    await asyncio.gather(first, *rest)
    assert model.batches == [[1], [2, 3]]


async def test_a_batch_is_not_larger_than_max_rows_but_a_larger_request_goes_alone(make: Make) -> None:
    model = Model()
    batcher = make(model, Limits(max_rows=3, max_delay_s=0))
    await asyncio.gather(*[batcher.submit(feed(*values), NEVER)
                           for values in ([1, 1], [2, 2], [3, 3, 3, 3, 3], [4])])
    assert model.batches == [[1, 1], [2, 2], [3] * 5, [4]]


async def test_only_requests_of_equal_sizes_run_together(make: Make) -> None:
    sizes: list[tuple[int, ...]] = []

    def model(arrays: Arrays) -> Arrays:
        sizes.append(arrays["x"].shape)
        return {"y": arrays["x"].sum(axis=1)}

    batcher = make(model, varying=("x",))
    feeds = [Feed({"x": np.ones((1, width))}, 1) for width in (2, 2, 3)]
    answers = await asyncio.gather(*[batcher.submit(one, NEVER) for one in feeds])
    assert [answer["y"].tolist() for answer in answers] == [[2.0], [2.0], [3.0]]
    assert sizes == [(2, 2), (1, 3)]


async def test_a_full_queue_is_busy_at_once_and_says_when_to_come_back(make: Make) -> None:
    batcher = make(Model(), Limits(queue_rows=2, max_delay_s=0))
    waiting = [batcher.submit(feed(1), NEVER), batcher.submit(feed(2), NEVER)]
    with pytest.raises(Busy) as raised:
        batcher.submit(feed(3), NEVER)
    assert raised.value.retry_after_s > 0
    assert batcher.counts.refused == 1
    await asyncio.gather(*waiting)
    await batcher.submit(feed(3), NEVER)


async def test_cancelled_requests_make_room_and_are_not_run(make: Make) -> None:
    model = Model()
    batcher = make(model, Limits(queue_rows=2, max_delay_s=0))
    given_up = [batcher.submit(feed(1), NEVER), batcher.submit(feed(2), NEVER)]
    for future in given_up:
        future.cancel()
    assert (await batcher.submit(feed(3), NEVER))["y"].tolist() == [6]
    assert model.batches == [[3]]


async def test_a_request_cancelled_while_waiting_is_dropped_before_inference(make: Make) -> None:
    model = Model()
    batcher = make(model)
    first, second = batcher.submit(feed(1), NEVER), batcher.submit(feed(2), NEVER)
    first.cancel()
    await second
    assert model.batches == [[2]]
    assert batcher.counts.waiting_rows == 0


async def test_a_request_past_its_deadline_is_not_run(make: Make) -> None:
    clock, model = FakeClock(), Model()
    batcher = make(model, clock=clock)
    late, timely = batcher.submit(feed(1), clock.monotonic()), batcher.submit(feed(2), clock.monotonic() + 1)
    with pytest.raises(TimeoutError):
        await late
    assert (await timely)["y"].tolist() == [4]
    assert model.batches == [[2]]
    assert batcher.counts.expired == 1


@pytest.mark.parametrize("threaded", [False, True])
async def test_a_failure_reaches_only_the_requests_of_its_batch(make: Make, threaded: bool) -> None:
    model = Model(poison=2)
    batcher = make(model, Limits(max_rows=2, max_delay_s=0), threaded=threaded)
    results = await asyncio.gather(*[batcher.submit(feed(value), NEVER) for value in (1, 2, 3, 4)],
                                   return_exceptions=True)
    assert [isinstance(result, Unavailable) for result in results] == [True, True, False, False]
    assert (await batcher.submit(feed(5), NEVER))["y"].tolist() == [10]


async def test_too_few_answers_are_nobodys(make: Make) -> None:
    batcher = make(lambda arrays: {"y": arrays["x"][1:]})
    results = await asyncio.gather(*[batcher.submit(feed(value), NEVER) for value in (1, 2)], return_exceptions=True)
    assert all(isinstance(result, Unavailable) for result in results)


async def test_close_answers_what_waits_and_takes_no_more(make: Make) -> None:
    model = Model()
    model.gate.clear()
    batcher = make(model, threaded=True)
    running = batcher.submit(feed(1), NEVER)
    await started(model, 1)
    waiting = batcher.submit(feed(2), NEVER)
    cancelled = batcher.submit(feed(3), NEVER)
    cancelled.cancel()
    batcher.close()
    with pytest.raises(Unavailable, match="leaving memory"):
        await waiting
    with pytest.raises(Unavailable, match="leaving memory"):
        batcher.submit(feed(4), NEVER)
    model.gate.set()
    assert (await running)["y"].tolist() == [2]


async def test_a_request_that_comes_alone_runs_where_it_stands(make: Make) -> None:
    model = Model()
    batcher = make(model)
    answering = batcher.answer(feed(1, 2), NEVER)
    with pytest.raises(StopIteration) as ended:
        answering.send(None)
    assert ended.value.value["y"].tolist() == [2, 4]
    assert (batcher.counts.batches, batcher.counts.rows, batcher.counts.waiting_rows) == (1, 2, 0)


async def test_a_crowd_is_seen_and_then_runs_together(make: Make) -> None:
    model = Model()
    batcher = make(model, Limits(max_delay_s=0.001))

    async def client(number: int) -> None:
        for _ in range(FIRST_PATIENCE):
            assert (await batcher.answer(feed(number), NEVER))["y"].tolist() == [2 * number]
            await asyncio.sleep(0)

    await asyncio.gather(*[client(number) for number in range(4)])
    assert max(len(batch) for batch in model.batches) == 4
    assert sum(len(batch) for batch in model.batches) == 4 * FIRST_PATIENCE


async def test_alone_or_not_a_late_request_is_not_run_and_a_failure_is_told(make: Make) -> None:
    clock, model = FakeClock(), Model(poison=13)
    batcher = make(model, clock=clock)
    for _ in range(2 * FIRST_PATIENCE):
        with pytest.raises(TimeoutError):
            await batcher.answer(feed(1), clock.monotonic())
        with pytest.raises(Unavailable):
            await batcher.answer(feed(13), NEVER)
    assert batcher.counts.expired == 2 * FIRST_PATIENCE
    assert [1] not in model.batches
    batcher.close()
    with pytest.raises(Unavailable, match="leaving memory"):
        await batcher.answer(feed(1), NEVER)


async def test_alone_too_a_model_must_answer_each_row(make: Make) -> None:
    batcher = make(lambda arrays: {"y": arrays["x"][1:]})
    with pytest.raises(Unavailable, match="answered 3 rows with 2"):
        await batcher.answer(feed(1, 2, 3), NEVER)
