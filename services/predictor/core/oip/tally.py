"""What one version did for requests: how many, how long each step took, and in batches of which size.

The numbers add up: every request that reached the version either succeeded or failed; each that succeeded has one time
in each step, and the steps last no longer than the whole; rows are those of requests that succeeded. A request that was
answered by an error for each of its rows succeeded with none. Rows of streams are not counted here.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType

from lepton.contracts.pb import grpc_service_pb2 as oip
from lepton.errors import Busy, Invalid, Missing, Refused
from services.predictor.core.oip.wishes import Shed
from services.predictor.core.signature import Feed

_NS = 1_000_000_000
_MS = 1000

REJECTED, CANCELED, BACKEND, OTHER = REASONS = ("REJECTED", "CANCELED", "BACKEND", "OTHER")
"""Why a request failed, in Triton's words: it waited too long or did not fit the queue; its caller left; the model
failed, or left memory; and what was wrong with the request itself."""

_REASONS: dict[str, str] = {
    **dict.fromkeys((Busy.__name__, Shed.__name__, TimeoutError.__name__), REJECTED),
    **dict.fromkeys(("cancelled", asyncio.CancelledError.__name__), CANCELED),
    **dict.fromkeys((Invalid.__name__, Missing.__name__, Refused.__name__), OTHER),
}


def reason_of(outcome: str) -> str:
    """Of REASONS, for the name of what was raised; what nobody foresaw is the model's fault."""
    return _REASONS.get(outcome, BACKEND)


class Steps:
    """How often reading, running and writing happened, together, and the seconds each took in sum."""

    __slots__ = ("count", "infer_s", "input_s", "output_s")

    def __init__(self) -> None:
        self.count = 0
        self.input_s = self.infer_s = self.output_s = 0.0

    def add(self, input_s: float, infer_s: float, output_s: float) -> None:
        self.count += 1
        self.input_s += input_s
        self.infer_s += infer_s
        self.output_s += output_s


@dataclass(frozen=True, slots=True)
class Batches:
    """Batches of `rows` rows, and the seconds of joining, running and taking apart in sum."""

    rows: int
    count: int
    join_s: float
    infer_s: float
    split_s: float


@dataclass(frozen=True, slots=True)
class Work:
    """What was done for one version on another thread, in sum. `last`: when the last request succeeded.

    `outcomes`: requests by how they ended, those answered among them as `ok`.
    """

    answered: int
    outcomes: Mapping[str, int]
    rows: int
    success_s: float
    fail_s: float
    queue_s: float
    input_s: float
    infer_s: float
    output_s: float
    last: float
    batches: tuple[Batches, ...]


class Tally:
    """Belongs to the event loop; only ever grows. Times are monotonic seconds of one clock."""

    def __init__(self) -> None:
        self.steps = Steps()
        self.rows = 0
        self.failures = dict.fromkeys(REASONS, 0)
        self.executions = 0
        self.last = 0.0
        """When the last request succeeded; meaningless before the first did."""
        self._success_s = self._fail_s = self._queue_s = 0.0
        self._batches: dict[int, Steps] = {}

    def request(self, clock: Callable[[], float], arrived: float) -> "Timed":
        """A `with` block around the answering of one request; what it raises counts as failed and goes on."""
        return Timed(self, clock, arrived)

    def succeeded(self, feed: Feed, output_s: float, ended: float, took_s: float) -> None:
        """A request was answered; `feed` has the times it was given on its way."""
        self.steps.add(feed.input_s, feed.infer_s, output_s)
        self.rows += feed.rows
        self.last = ended
        self._queue_s += feed.queue_s
        self._success_s += took_s

    @property
    def failed(self) -> int:
        return sum(self.failures.values())

    def gave_up(self, took_s: float, outcome: str) -> None:
        """A request got no answer; `outcome` is the name of what was raised."""
        self.failures[reason_of(outcome)] += 1
        self._fail_s += took_s

    def ran(self, rows: int, join_s: float, infer_s: float, split_s: float) -> None:
        """One batch of `rows` rows was executed: its requests joined, run, and their answers taken apart."""
        steps = self._batches.get(rows)
        if steps is None:
            steps = self._batches[rows] = Steps()
        steps.add(join_s, infer_s, split_s)
        self.executions += 1

    def add(self, work: Work) -> None:
        """Requests that another thread answered."""
        steps = self.steps
        steps.count += work.answered
        steps.input_s += work.input_s
        steps.infer_s += work.infer_s
        steps.output_s += work.output_s
        self.rows += work.rows
        self.last = max(self.last, work.last)
        for outcome, number in work.outcomes.items():
            if outcome != "ok":
                self.failures[reason_of(outcome)] += number
        self._queue_s += work.queue_s
        self._success_s += work.success_s
        self._fail_s += work.fail_s
        for one in work.batches:
            kept = self._batches.setdefault(one.rows, Steps())
            kept.count += one.count
            kept.input_s += one.join_s
            kept.infer_s += one.infer_s
            kept.output_s += one.split_s
            self.executions += one.count

    def report(self, model: str, version: int, now: float, wall_s: float) -> oip.ModelStatistics:
        """As the protocol says it. `now` and `wall_s` (seconds since the epoch) are the same moment."""
        count = self.steps.count
        found = oip.ModelStatistics(
            name=model, version=str(version), inference_count=self.rows, execution_count=self.executions,
            last_inference=round((wall_s - (now - self.last)) * _MS) if count else 0,
            inference_stats=oip.InferStatistics(
                success=_duration(count, self._success_s), fail=_duration(self.failed, self._fail_s),
                queue=_duration(count, self._queue_s), compute_input=_duration(count, self.steps.input_s),
                compute_infer=_duration(count, self.steps.infer_s),
                compute_output=_duration(count, self.steps.output_s)))
        for rows, steps in sorted(self._batches.items()):
            found.batch_stats.add(batch_size=rows, compute_input=_duration(steps.count, steps.input_s),
                                  compute_infer=_duration(steps.count, steps.infer_s),
                                  compute_output=_duration(steps.count, steps.output_s))
        return found


class Timed:
    """One request while it is answered: tell it when the request was `read`, and when its answer is there."""

    __slots__ = ("_answered", "_arrived", "_begun", "_clock", "_feed", "_tally")

    def __init__(self, tally: Tally, clock: Callable[[], float], arrived: float) -> None:
        self._tally = tally
        self._clock = clock
        self._arrived = arrived
        self._begun = clock()
        self._answered = 0.0
        self._feed: Feed | None = None

    def read(self, feed: Feed) -> Feed:
        ended = self._clock()
        feed.input_s = ended - self._begun
        if feed.course is not None:
            feed.course.step("input", self._begun, ended)
        self._feed = feed
        return feed

    def handed_to(self, other: Tally) -> None:
        """Another version answers instead: this one failed."""
        self._tally.gave_up(self._clock() - self._arrived, "failed")
        self._tally = other

    def answered(self) -> None:
        self._answered = self._clock()

    def __enter__(self) -> "Timed":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        ended = self._clock()
        if error is None and self._feed is not None:
            self._tally.succeeded(self._feed, ended - self._answered, ended, ended - self._arrived)
            if self._feed.course is not None:
                self._feed.course.step("output", self._answered, ended)
        else:
            self._tally.gave_up(ended - self._arrived, "unread" if kind is None else kind.__name__)


def _duration(count: int, seconds: float) -> oip.StatisticDuration:
    return oip.StatisticDuration(count=count, ns=round(seconds * _NS))
