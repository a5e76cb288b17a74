"""What a pipeline says of waiting is kept to: levels, sizes, instances, patience; and no model waits for another."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable

import numpy as np
import pytest

from lepton.clock import FakeClock
from lepton.contracts.pb import grpc_service_pb2 as oip
from lepton.errors import Busy, Invalid
from services.predictor.core.batching.batcher import Arrays, Batcher
from services.predictor.core.batching.limits import Limits
from services.predictor.core.oip.wishes import wishes
from services.predictor.core.signature import Feed
from tests.harness.wait import apoll_until

NEVER = float("inf")
Make = Callable[..., Batcher]


def feed(*values: float, priority: int = 0, patience_s: float = NEVER) -> Feed:
    return Feed({"x": np.array(values)}, len(values), priority=priority, patience_s=patience_s)


class Model:
    """Answers what it is asked and remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[list[float]] = []

    def __call__(self, arrays: Arrays) -> Arrays:
        self.batches.append(arrays["x"].tolist())
        return {"y": arrays["x"]}


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    batchers: list[Batcher] = []

    def make(model: Callable[[Arrays], Arrays], limits: Limits, *, inline_rows: int = 1000,
             clock: FakeClock | None = None) -> Batcher:
        batchers.append(Batcher(model, limits, clock or FakeClock(), inline_rows=inline_rows))
        return batchers[-1]

    yield make
    for batcher in batchers:
        batcher.close()


async def test_of_what_waits_the_first_level_runs_first_and_each_level_as_it_came(make: Make) -> None:
    model = Model()
    batcher = make(model, Limits(max_rows=1, max_delay_s=0, priority_levels=3, default_level=2))
    asked = [(1.0, 3), (2.0, 0), (3.0, 1), (4.0, 2), (5.0, 1), (6.0, 9)]
    await asyncio.gather(*[batcher.submit(feed(value, priority=level), NEVER) for value, level in asked])
    assert model.batches == [[3], [5], [2], [4], [6], [1]]


async def test_a_batch_is_filled_up_from_the_next_level(make: Make) -> None:
    model = Model()
    batcher = make(model, Limits(max_rows=3, max_delay_s=0, priority_levels=2, default_level=2))
    answers = await asyncio.gather(*[batcher.submit(feed(value, priority=level), NEVER)
                                     for value, level in ((1.0, 2), (2.0, 2), (3.0, 1), (4.0, 2))])
    assert model.batches == [[3, 1, 2], [4]]
    assert [answer["y"].tolist() for answer in answers] == [[1], [2], [3], [4]]


async def test_without_levels_a_priority_changes_nothing(make: Make) -> None:
    model = Model()
    batcher = make(model, Limits(max_rows=1, max_delay_s=0))
    await asyncio.gather(*[batcher.submit(feed(value, priority=level), NEVER) for value, level in ((1, 2), (2, 1))])
    assert model.batches == [[1], [2]]


async def test_a_batch_ends_at_the_largest_preferred_size_it_can_have(make: Make) -> None:
    model = Model()
    batcher = make(model, Limits(max_rows=8, max_delay_s=0, preferred=frozenset({2, 4})))
    await asyncio.gather(*[batcher.submit(feed(value), NEVER) for value in range(7)])
    assert model.batches == [[0, 1, 2, 3], [4, 5], [6]]


async def test_a_preferred_size_ends_the_wait_for_company(make: Make) -> None:
    model = Model()
    batcher = make(model, Limits(max_rows=64, max_delay_s=3600, preferred=frozenset({3})))
    await asyncio.gather(*[batcher.submit(feed(value), NEVER) for value in (1, 2, 3)])
    waiting = [batcher.submit(feed(value), NEVER) for value in (4, 5)]
    await asyncio.sleep(0)
    assert not waiting[0].done()
    await asyncio.wait_for(asyncio.gather(*waiting, batcher.submit(feed(6), NEVER)), 10)
    assert model.batches == [[1, 2, 3], [4, 5, 6]]


async def test_what_is_too_late_makes_room_in_a_full_queue_and_is_told_so(make: Make) -> None:
    clock, gate, model = FakeClock(), threading.Event(), Model()

    def held(arrays: Arrays) -> Arrays:
        answers = model(arrays)
        gate.wait(20)
        return answers

    batcher = make(held, Limits(queue_rows=2, max_rows=2, max_delay_s=0), inline_rows=0, clock=clock)
    first = batcher.submit(feed(0), NEVER)
    await apoll_until(lambda: _true(model.batches), "the first to run")
    late, timely = batcher.submit(feed(1, patience_s=1.0), NEVER), batcher.submit(feed(2), NEVER)
    with pytest.raises(Busy):
        batcher.submit(feed(3), NEVER)
    await clock.advance(1.5)
    last = batcher.submit(feed(3), NEVER)
    with pytest.raises(TimeoutError):
        await late
    gate.set()
    await asyncio.gather(first, timely, last)
    assert model.batches == [[0], [2, 3]]
    assert (batcher.counts.expired, batcher.counts.refused, batcher.counts.waiting_rows) == (1, 1, 0)


async def _true(found: object) -> bool:
    return bool(found)


async def test_so_many_batches_run_at_once_as_there_are_instances(make: Make) -> None:
    together = threading.Barrier(3)

    def model(arrays: Arrays) -> Arrays:
        together.wait(20)
        return {"y": arrays["x"] + 1}

    batcher = make(model, Limits(max_rows=1, max_delay_s=0, instances=3), inline_rows=0)
    answers = await asyncio.gather(*[batcher.submit(feed(value), NEVER) for value in range(6)])
    assert [answer["y"].tolist() for answer in answers] == [[value + 1] for value in range(6)]


async def test_no_more_batches_run_at_once_than_there_are_instances(make: Make) -> None:
    running, most, lock = 0, 0, threading.Lock()

    def model(arrays: Arrays) -> Arrays:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        with lock:
            running -= 1
        return arrays

    batcher = make(model, Limits(max_rows=1, max_delay_s=0, instances=2), inline_rows=0)
    await asyncio.gather(*[batcher.submit(feed(value), NEVER) for value in range(200)])
    assert most <= 2


async def test_a_quiet_model_is_answered_while_a_busy_one_has_much_waiting(make: Make) -> None:
    busy, quiet = make(Model(), Limits(max_rows=1, max_delay_s=0)), make(Model(), Limits(max_delay_s=0))
    flood = [busy.submit(feed(value), NEVER) for value in range(500)]
    await quiet.submit(feed(1), NEVER)
    assert busy.counts.batches <= 3
    await asyncio.gather(*flood)


async def test_a_quiet_model_is_answered_while_a_busy_one_computes(make: Make) -> None:
    gate = threading.Event()

    def long(arrays: Arrays) -> Arrays:
        gate.wait(20)
        return arrays

    busy, quiet = make(long, Limits(max_rows=1, max_delay_s=0), inline_rows=0), make(Model(), Limits(max_delay_s=0))
    flood = [busy.submit(feed(value), NEVER) for value in range(20)]
    for value in range(20):
        await quiet.submit(feed(value), NEVER)
    assert busy.counts.batches == 0
    gate.set()
    await asyncio.gather(*flood)


@pytest.mark.parametrize("wrong", [oip.InferParameter(string_param="1"), oip.InferParameter(int64_param=-1),
                                   oip.InferParameter(bool_param=True), oip.InferParameter()])
def test_a_wish_that_is_no_whole_number_is_refused_by_name(wrong: oip.InferParameter) -> None:
    for name in ("priority", "timeout"):
        with pytest.raises(Invalid, match=name):
            wishes({name: wrong})


def test_wishes_are_read_as_triton_s_clients_send_them() -> None:
    sent = {"priority": oip.InferParameter(uint64_param=2), "timeout": oip.InferParameter(int64_param=1500)}
    assert wishes(sent) == (2, 0.0015)
    assert wishes({"timeout": oip.InferParameter(int64_param=0)}) == (0, NEVER)
