"""When waiting requests run together: bounded, never past a deadline, never mixed, and without delay when idle.

A request that comes alone runs at once, where it stands. In a crowd it waits a moment for company, with which it costs
less than alone. What is short runs on the event loop itself, where a thread would cost more than the inference; what is
long on one worker thread.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from lepton.clock import Clock
from lepton.errors import Busy, Unavailable
from services.predictor.core.crowd import Crowd
from services.predictor.core.oip.tally import Tally
from services.predictor.core.signature import Array, Feed

Arrays = Mapping[str, Array]
Run = Callable[[Arrays], Arrays]

_Shapes = tuple[tuple[int, ...], ...]
"""Sizes behind the batch dimension of the inputs that leave them free."""

_MIN_RETRY_S = 0.01
"""A caller told to come back sooner would only be told so again."""

_SMOOTHING = 0.1
"""Weight of the newest batch in the estimate of seconds a row."""


@dataclass(frozen=True, slots=True)
class Limits:
    """`max_rows` of a batch, `queue_rows` that may wait, `max_delay_s` that a request may wait for company."""

    max_rows: int = 64
    max_delay_s: float = 0.001
    queue_rows: int = 4096


@dataclass(slots=True)
class _Attempt:
    """Outputs of all rows of a batch, or what was raised; when it began, and the seconds of joining and running."""

    result: Arrays | Exception
    began: float
    join_s: float
    infer_s: float


@dataclass(slots=True)
class Counts:
    """What a batcher did, for metrics; only ever grows, except `waiting_rows`."""

    batches: int = 0
    rows: int = 0
    expired: int = 0
    refused: int = 0
    waiting_rows: int = 0


class _Waiting:
    __slots__ = ("arrived", "deadline", "feed", "future", "shapes")

    def __init__(self, feed: Feed, shapes: _Shapes, deadline: float, arrived: float, future: asyncio.Future[Arrays]):
        self.feed = feed
        self.shapes = shapes
        self.deadline = deadline
        self.arrived = arrived
        self.future = future


class Batcher:
    """Belongs to one event loop, and to one version of one model, so that versions never share a batch.

    Batches of up to `inline_rows` run on the loop, larger ones on the thread. `varying` names the inputs with a free
    size behind the batch dimension: only requests of equal sizes run together.
    """

    def __init__(self, run: Run, limits: Limits, clock: Clock, *, inline_rows: int,
                 varying: Sequence[str] = ()) -> None:
        self._run = run
        self.limits = limits
        self._clock = clock
        self._varying = tuple(varying)
        self._queue: deque[_Waiting] = deque()
        self._inline_rows = inline_rows
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="inference")
        self._planned: asyncio.Handle | None = None
        self._delayed = False
        self._crowd = Crowd()
        self._running = False
        self._closed = False
        self._row_s = 0.0
        self.counts = Counts()
        self.tally = Tally()

    async def answer(self, feed: Feed, deadline: float) -> Arrays:
        """What the future of `submit` gives, raising what it raises."""
        now = self._clock.monotonic()
        waits = self._crowd.arrived(now, self.limits.max_delay_s)
        if waits or self._queue or self._running or self._closed or feed.rows > self._inline_rows:
            return await self.submit(feed, deadline)
        if deadline <= now:
            self.counts.expired += 1
            raise _expired()
        self.counts.batches += 1
        self.counts.rows += feed.rows
        outputs = _checked(self._run(feed.arrays), feed.rows)
        feed.infer_s = self._clock.monotonic() - now
        self.tally.ran(feed.rows, 0.0, feed.infer_s, 0.0)
        return outputs

    def submit(self, feed: Feed, deadline: float) -> asyncio.Future[Arrays]:
        """A future of the outputs for exactly these rows.

        `deadline` is monotonic seconds of the batcher's clock; a request past it is not run, and its future raises
        TimeoutError. Raises Busy at once when too many rows wait, Unavailable after `close`. A cancelled future is
        not run.
        """
        if self._closed:
            raise Unavailable("this version is leaving memory", remedy="send the request again")
        if self.counts.waiting_rows + feed.rows > self.limits.queue_rows:
            self._forget_cancelled()
            if self.counts.waiting_rows + feed.rows > self.limits.queue_rows:
                raise self._busy(feed.rows)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Arrays] = loop.create_future()
        shapes = tuple(feed.arrays[name].shape[1:] for name in self._varying)
        self._queue.append(_Waiting(feed, shapes, deadline, self._clock.monotonic(), future))
        self.counts.waiting_rows += feed.rows
        self._plan(loop)
        return future

    def close(self) -> None:
        """Take no more; what still waits raises Unavailable. A batch that runs ends and is answered."""
        self._closed = True
        while self._queue:
            waiting = self._queue.popleft()
            if not waiting.future.done():
                waiting.future.set_exception(Unavailable("this version is leaving memory",
                                                         remedy="send the request again"))
        self.counts.waiting_rows = 0
        self._executor.shutdown(wait=False)

    def _plan(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have the next batch run: at once, or a moment later when it is not full and company is likely."""
        if self._running:
            return
        full = self.counts.waiting_rows >= self.limits.max_rows
        if self._planned is not None:
            if not (full and self._delayed):
                return
            self._planned.cancel()
        delay_s = 0.0
        if self._crowd.waiting and not full:
            delay_s = self._queue[0].arrived + self.limits.max_delay_s - self._clock.monotonic()
        self._delayed = delay_s > 0
        self._planned = loop.call_later(delay_s, self._turn) if self._delayed else loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._planned = None
        batch = self._take()
        if not batch:
            return
        if sum(waiting.feed.rows for waiting in batch) <= self._inline_rows:
            self._end(batch, self._attempt(batch))
            return
        self._running = True
        done = asyncio.get_running_loop().run_in_executor(self._executor, self._attempt, batch)
        done.add_done_callback(lambda ended: self._end(batch, ended.result()))

    def _end(self, batch: list[_Waiting], attempt: _Attempt) -> None:
        self._running = False
        self._crowd.ended(len(batch) > 1 or bool(self._queue))
        self._answer(batch, attempt)
        if self._queue:
            self._plan(asyncio.get_running_loop())

    def _take(self) -> list[_Waiting]:
        """The longest run of waiting requests of equal shape that fits a batch; a larger request goes alone."""
        batch: list[_Waiting] = []
        rows, now = 0, self._clock.monotonic()
        while self._queue:
            waiting = self._queue[0]
            if waiting.future.done() or waiting.deadline <= now:
                self._drop(self._queue.popleft())
                continue
            if batch and (rows + waiting.feed.rows > self.limits.max_rows or waiting.shapes != batch[0].shapes):
                break
            batch.append(self._queue.popleft())
            rows += waiting.feed.rows
        self.counts.waiting_rows -= rows
        return batch

    def _drop(self, waiting: _Waiting) -> None:
        self.counts.waiting_rows -= waiting.feed.rows
        if not waiting.future.done():
            self.counts.expired += 1
            waiting.future.set_exception(_expired())

    def _attempt(self, batch: list[_Waiting]) -> _Attempt:
        began = joined = self._clock.monotonic()
        result: Arrays | Exception
        try:
            feed = _joined([waiting.feed for waiting in batch])
            joined = self._clock.monotonic()
            result = _checked(self._run(feed.arrays), feed.rows)
        except Exception as error:  # noqa: BLE001 - handed to exactly the requests of this batch
            result = error
        return _Attempt(result, began, joined - began, self._clock.monotonic() - joined)

    def _answer(self, batch: list[_Waiting], attempt: _Attempt) -> None:
        rows = sum(waiting.feed.rows for waiting in batch)
        self.counts.batches += 1
        self.counts.rows += rows
        self._row_s += _SMOOTHING * ((attempt.join_s + attempt.infer_s) / rows - self._row_s)
        started = self._clock.monotonic()
        self._hand_out(batch, attempt, rows)
        if not isinstance(attempt.result, Exception):
            self.tally.ran(rows, attempt.join_s, attempt.infer_s, self._clock.monotonic() - started)

    @staticmethod
    def _hand_out(batch: list[_Waiting], attempt: _Attempt, rows: int) -> None:
        """Give each request its rows of the outputs, or what was raised."""
        result, stop = attempt.result, 0
        for waiting in batch:
            start, stop = stop, stop + waiting.feed.rows
            if waiting.future.done():
                continue
            waiting.feed.queue_s = attempt.began - waiting.arrived
            waiting.feed.input_s += attempt.join_s
            waiting.feed.infer_s = attempt.infer_s
            if isinstance(result, Exception):
                waiting.future.set_exception(result)
            else:
                waiting.future.set_result(result if waiting.feed.rows == rows else _part(result, start, stop))

    def _forget_cancelled(self) -> None:
        kept = [waiting for waiting in self._queue if not waiting.future.done()]
        self._queue = deque(kept)
        self.counts.waiting_rows = sum(waiting.feed.rows for waiting in kept)

    def _busy(self, rows: int) -> Busy:
        self.counts.refused += 1
        after_s = max(_MIN_RETRY_S, self.counts.waiting_rows * self._row_s)
        return Busy(f"{self.counts.waiting_rows} rows wait already, {rows} more do not fit", retry_after_s=after_s,
                    remedy="send again later, or raise serve.batching.queue_rows or serve.replicas")


def _joined(feeds: list[Feed]) -> Feed:
    if len(feeds) == 1:
        return feeds[0]
    arrays = {name: np.concatenate([feed.arrays[name] for feed in feeds]) for name in feeds[0].arrays}
    return Feed(arrays, sum(feed.rows for feed in feeds))


def _checked(outputs: Arrays, rows: int) -> Arrays:
    """Without a row for each row there would be no telling whose answer is whose."""
    for array in outputs.values():
        if len(array) != rows:
            raise Unavailable(f"the model answered {rows} rows with {len(array)}", remedy="roll the model back")
    return outputs


def _part(outputs: Arrays, start: int, stop: int) -> Arrays:
    return {name: array[start:stop] for name, array in outputs.items()}


def _expired() -> TimeoutError:
    return TimeoutError("the deadline passed before the request could run")
