"""Whatever arrives in whatever order, each request is answered once, with exactly its own rows, or with its outcome."""

import asyncio
from dataclasses import dataclass

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton.clock import FakeClock
from lepton.errors import Busy, Unavailable
from services.predictor.core.batching.batcher import Arrays, Batcher
from services.predictor.core.batching.limits import Limits
from services.predictor.core.signature import Feed

POISON = 13.0


@dataclass(frozen=True)
class Step:
    """One request of `rows` rows; `turns` of the loop pass after it."""

    rows: int
    turns: int
    cancel: bool
    expired: bool
    poisoned: bool
    priority: int


RARELY = st.integers(0, 4).map(lambda n: n == 4)
STEPS = st.lists(st.builds(Step, rows=st.integers(1, 5), turns=st.integers(0, 2), cancel=RARELY, expired=RARELY,
                           poisoned=RARELY, priority=st.integers(0, 4)), min_size=2, max_size=25)


def model(arrays: Arrays) -> Arrays:
    """Fails as a whole when a poisoned row is in the batch; else a function of each row alone."""
    if (arrays["flag"] == POISON).any():
        raise Unavailable("poisoned")
    return {"own": arrays["id"] * 7 + 1, "pair": np.stack([arrays["id"], arrays["flag"]], axis=1)}


LIMITS = st.builds(Limits, max_rows=st.integers(1, 6), max_delay_s=st.just(0.0), queue_rows=st.integers(4, 12),
                   preferred=st.frozensets(st.integers(1, 6), max_size=2), priority_levels=st.integers(0, 3),
                   default_level=st.integers(0, 3), instances=st.integers(1, 3))


@given(STEPS, LIMITS, st.sampled_from([0, 3, 1000]))
@settings(max_examples=300, deadline=None)
def test_answers_are_never_mixed_lost_or_doubled(steps: list[Step], limits: Limits, inline_rows: int) -> None:
    asyncio.run(drive(steps, limits, inline_rows=inline_rows))


async def drive(steps: list[Step], limits: Limits, *, inline_rows: int) -> None:
    clock = FakeClock()
    ran: list[float] = []

    def noted(arrays: Arrays) -> Arrays:
        ran.extend(arrays["id"].tolist())
        return model(arrays)

    batcher = Batcher(noted, limits, clock, inline_rows=inline_rows)
    asked: list[tuple[Step, np.ndarray[tuple[int], np.dtype[np.float64]], asyncio.Future[Arrays]]] = []
    next_id = 0.0
    for step in steps:
        ids = np.arange(next_id, next_id + step.rows)
        next_id += step.rows
        flags = np.full(step.rows, POISON if step.poisoned else 0.0)
        waiting = batcher.counts.waiting_rows
        try:
            future = batcher.submit(Feed({"id": ids, "flag": flags}, step.rows, priority=step.priority),
                                    clock.monotonic() if step.expired else float("inf"))
        except Busy:
            assert waiting + step.rows > limits.queue_rows
            continue
        assert batcher.counts.waiting_rows <= limits.queue_rows
        if step.cancel:
            future.cancel()
        asked.append((step, ids, future))
        for _ in range(step.turns):
            await asyncio.sleep(0)
    await asyncio.wait_for(asyncio.gather(*[future for _, _, future in asked], return_exceptions=True), 10)
    for step, ids, future in asked:
        check(step, ids, future)
    assert batcher.counts.waiting_rows == 0
    assert len(ran) == len(set(ran)), "a row was run twice"
    batcher.close()


def check(step: Step, ids: "np.ndarray[tuple[int], np.dtype[np.float64]]", future: "asyncio.Future[Arrays]") -> None:
    if step.cancel:
        assert future.cancelled()
    elif step.expired:
        assert isinstance(future.exception(), TimeoutError)
    elif step.poisoned:
        assert isinstance(future.exception(), Unavailable)
    elif future.exception() is not None:
        # Only company that failed may take a healthy request with it.
        assert isinstance(future.exception(), Unavailable)
    else:
        assert future.result()["own"].tolist() == (ids * 7 + 1).tolist()
        assert future.result()["pair"][:, 0].tolist() == ids.tolist()
