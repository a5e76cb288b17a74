"""When waiting requests run together: bounded, never past a deadline, never mixed, and without delay when idle.

A request that comes alone runs at once, where it stands. In a crowd it waits a moment for company, with which it costs
less than alone. What is short runs on the event loop itself, where a thread would cost more than the inference; what is
long on worker threads, one for each instance of the model.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from lepton.clock import Clock
from lepton.errors import Busy, Unavailable
from services.predictor.core.batching.crowd import Crowd
from services.predictor.core.batching.limits import MAX_INSTANCES, Limits
from services.predictor.core.batching.line import Line, Waiting, shapes_of
from services.predictor.core.batching.pace import Pace
from services.predictor.core.oip.tally import Tally
from services.predictor.core.signature import Array, Feed, Observe

Arrays = Mapping[str, Array]
Run = Callable[[Arrays], Arrays]

_MIN_RETRY_S = 0.01
"""A caller told to come back sooner would only be told so again."""

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


class Batcher:
    """Belongs to one event loop, and to one version of one model, so that versions never share a batch.

    Batches of up to `inline_rows` run on the loop, larger ones on threads. `varying` names the inputs with a free
    size behind the batch dimension: only requests of equal sizes run together. Who comes in vain is judged by `pace`.
    """

    def __init__(self, run: Run, limits: Limits, clock: Clock, *, inline_rows: int,
                 varying: Sequence[str] = (), observe: Observe | None = None, pace: Pace | None = None) -> None:
        self._run = run
        self.limits = limits
        self._clock = clock
        self._varying = tuple(varying)
        self._observe = observe
        self.counts = Counts()
        # Not a method of this: a cycle would keep the model in memory until the collector looks, which is rarely.
        self._line = Line(partial(_drop, self.counts))
        self._inline_rows = inline_rows
        self._executor = ThreadPoolExecutor(MAX_INSTANCES, thread_name_prefix="inference")
        self._planned: asyncio.Handle | None = None
        self._delayed = False
        self._crowd = Crowd()
        self.pace = pace or Pace()
        self._running: dict[int, tuple[float, int]] = {}
        """When each batch that runs on a thread is expected to end, and its rows."""
        self._closed = False
        self.tally = Tally()

    @property
    def pending(self) -> int:
        """Requests that wait for their batch."""
        return len(self._line)

    async def answer(self, feed: Feed, deadline: float) -> Arrays:
        """What the future of `submit` gives, raising what it raises."""
        now = self._clock.monotonic()
        waits = self._crowd.arrived(now, self.limits.max_delay_s)
        if waits or self._line or self._running or self._closed or feed.rows > self._inline_rows:
            return await self.submit(feed, deadline)
        if deadline <= now:
            self.counts.expired += 1
            raise _expired()
        self.counts.batches += 1
        self.counts.rows += feed.rows
        try:
            outputs = checked(self._run(feed.arrays), feed.rows)
        except Exception as error:
            self._show([feed], now, error)
            raise
        feed.infer_s = self._clock.monotonic() - now
        self.pace.ran(feed.rows, feed.infer_s)
        self._show([feed], now)
        self.tally.ran(feed.rows, 0.0, feed.infer_s, 0.0)
        return outputs

    def submit(self, feed: Feed, deadline: float) -> asyncio.Future[Arrays]:
        """A future of the outputs for exactly these rows.

        `deadline` is monotonic seconds of the batcher's clock; a request past it is not run, and its future raises
        TimeoutError. Raises Busy at once when too much waits for it to be answered soon, or by then; Unavailable
        after `close`. A cancelled future is not run.
        """
        if self._closed:
            raise Unavailable("this version is leaving memory", remedy="send the request again")
        now, level = self._clock.monotonic(), self.limits.level(feed.priority)
        if self._too_much(feed, level, deadline, now):
            self._line.clear_out(now)
            self.counts.waiting_rows = self._line.rows
            if why := self._too_much(feed, level, deadline, now):
                self.counts.refused += 1
                raise Busy(why, retry_after_s=max(_MIN_RETRY_S, self._waits(level, now)),
                           remedy="send again later, or raise serve.replicas, or what serve.batching lets wait")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Arrays] = loop.create_future()
        waiting = Waiting(feed, shapes_of(self._varying, feed), min(deadline, now + feed.patience_s), now, future,
                          level)
        self._line.add(waiting)
        self.counts.waiting_rows = self._line.rows
        self._plan(loop)
        return future

    def close(self) -> None:
        """Take no more; what still waits raises Unavailable. A batch that runs ends and is answered."""
        self._closed = True
        for waiting in self._line.empty():
            if not waiting.future.done():
                waiting.future.set_exception(Unavailable("this version is leaving memory",
                                                         remedy="send the request again"))
        self.counts.waiting_rows = 0
        self._executor.shutdown(wait=False)

    def _waits(self, level: int, now: float) -> float:
        """Seconds that a request of this level will wait for its batch. 0 when it is the next to run."""
        limits = self.limits
        batches = self._line.before(level) // limits.max_rows
        waits_s = batches * self.pace.of(limits.max_rows) / limits.instances if batches else 0.0
        if len(self._running) >= limits.instances:
            waits_s += max(0.0, min(self._running.values())[0] - now)
        return waits_s

    def _too_much(self, feed: Feed, level: int, deadline: float, now: float) -> str:
        """Why a request is not let in; empty when it is. What would run next is always tried: only so does an estimate
        that was too long come right."""
        limits = self.limits
        if self._line.rows + feed.rows > limits.queue_rows:
            return f"{self._line.rows} rows wait already, {feed.rows} more do not fit"
        waits_s = self._waits(level, now)
        if waits_s <= 0:
            return ""
        # One request may be more than a batch.
        largest = max((rows for _, rows in self._running.values()), default=0)
        most_s = limits.wait_s(self.pace.of(max(largest, limits.max_rows)))
        if waits_s > most_s:
            return f"{self._line.rows} rows wait already, about {waits_s:.3g} s to wait, {most_s:.3g} s at most"
        left_s = min(feed.patience_s, deadline - now - self.pace.of(feed.rows))
        if waits_s > left_s and deadline > now:
            return f"about {waits_s:.3g} s to wait, and the request has {max(0.0, left_s):.3g} s for that"
        return ""

    def _plan(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have the next batch run: at once, or a moment later when it is not full and company is likely."""
        if len(self._running) >= self.limits.instances:
            return
        full = self._line.rows >= self.limits.full_rows
        if self._planned is not None:
            if not (full and self._delayed):
                return
            self._planned.cancel()
        delay_s = 0.0
        if self._crowd.waiting and not full:
            delay_s = self._line.oldest() + self.limits.max_delay_s - self._clock.monotonic()
        self._delayed = delay_s > 0
        self._planned = loop.call_later(delay_s, self._turn) if self._delayed else loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._planned = None
        batch = self._line.take(self.limits, self._clock.monotonic())
        self.counts.waiting_rows = self._line.rows
        if not batch:
            return
        rows = sum(waiting.feed.rows for waiting in batch)
        if rows <= self._inline_rows:
            self._end(batch, self._attempt(batch))
            return
        self._running[id(batch)] = (self._clock.monotonic() + self.pace.of(rows), rows)
        loop = asyncio.get_running_loop()
        done = loop.run_in_executor(self._executor, self._attempt, batch)
        done.add_done_callback(lambda ended: self._left(batch, ended.result()))
        if self._line:
            self._plan(loop)

    def _left(self, batch: list[Waiting], attempt: _Attempt) -> None:
        """A thread is done."""
        del self._running[id(batch)]
        self._end(batch, attempt)

    def _end(self, batch: list[Waiting], attempt: _Attempt) -> None:
        self._crowd.ended(len(batch) > 1 or bool(self._line))
        self._answer(batch, attempt)
        if self._line:
            self._plan(asyncio.get_running_loop())

    def _attempt(self, batch: list[Waiting]) -> _Attempt:
        began = joined = self._clock.monotonic()
        result: Arrays | Exception
        try:
            feed = _joined([waiting.feed for waiting in batch])
            joined = self._clock.monotonic()
            result = checked(self._run(feed.arrays), feed.rows)
        except Exception as error:  # noqa: BLE001 - handed to exactly the requests of this batch
            result = error
        return _Attempt(result, began, joined - began, self._clock.monotonic() - joined)

    def _answer(self, batch: list[Waiting], attempt: _Attempt) -> None:
        rows = sum(waiting.feed.rows for waiting in batch)
        self.counts.batches += 1
        self.counts.rows += rows
        started = self._clock.monotonic()
        self._hand_out(batch, attempt, rows)
        if self._observe is not None:
            self._show([waiting.feed for waiting in batch], attempt.began,
                       attempt.result if isinstance(attempt.result, Exception) else None)
        if not isinstance(attempt.result, Exception):
            self.pace.ran(rows, attempt.join_s + attempt.infer_s)
            self.tally.ran(rows, attempt.join_s, attempt.infer_s, self._clock.monotonic() - started)

    @staticmethod
    def _hand_out(batch: list[Waiting], attempt: _Attempt, rows: int) -> None:
        """Give each request its rows of the outputs, or what was raised."""
        result, stop = attempt.result, 0
        for waiting in batch:
            start, stop = stop, stop + waiting.feed.rows
            if waiting.future.done():
                continue
            waiting.feed.queue_s = attempt.began - waiting.arrived
            if waiting.feed.course is not None:
                waiting.feed.course.step("queue", waiting.arrived, attempt.began)
            waiting.feed.input_s += attempt.join_s
            waiting.feed.infer_s = attempt.infer_s
            if isinstance(result, Exception):
                waiting.future.set_exception(result)
            else:
                waiting.future.set_result(result if waiting.feed.rows == rows else _part(result, start, stop))

    def _show(self, feeds: Sequence[Feed], began: float, error: Exception | None = None) -> None:
        """Have a batch seen in the traces of those of its requests that have one."""
        courses = [feed.course for feed in feeds if feed.course is not None]
        if not courses or self._observe is None:
            return
        ended = self._clock.monotonic()
        self._observe(courses, began, ended,
                      {"rows": sum(feed.rows for feed in feeds), "requests": len(feeds)}, error)
        for course in courses:
            course.step("infer", began, ended)


def _joined(feeds: list[Feed]) -> Feed:
    if len(feeds) == 1:
        return feeds[0]
    arrays = {name: np.concatenate([feed.arrays[name] for feed in feeds]) for name in feeds[0].arrays}
    return Feed(arrays, sum(feed.rows for feed in feeds))


def checked(outputs: Arrays, rows: int) -> Arrays:
    """Without a row for each row there would be no telling whose answer is whose."""
    for array in outputs.values():
        if len(array) != rows:
            raise Unavailable(f"the model answered {rows} rows with {len(array)}", remedy="roll the model back")
    return outputs


def _part(outputs: Arrays, start: int, stop: int) -> Arrays:
    return {name: array[start:stop] for name, array in outputs.items()}


def _drop(counts: Counts, waiting: Waiting) -> None:
    if not waiting.future.done():
        counts.expired += 1
        waiting.future.set_exception(_expired())


def _expired() -> TimeoutError:
    return TimeoutError("the deadline passed before the request could run")
