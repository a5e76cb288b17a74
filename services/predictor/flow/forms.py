"""What a door may answer in batches by itself: which version stands behind a form of requests, and how a batch is run.

A version that was lent to a door is closed only when the door has let go of it.
"""

import asyncio
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from lepton.clock import Clock
from lepton.contracts.pb import grpc_service_pb2 as oip
from lepton.errors import LeptonError
from services.predictor.core.batching.limits import Limits
from services.predictor.core.engine import Engine
from services.predictor.core.oip.tally import Batches, Work
from services.predictor.core.plain.forms import Batch, Form
from services.predictor.core.rollout.comparing import sound, unsound_rows
from services.predictor.flow.answered import MAX_LOGGED_ROWS, Answered
from services.predictor.flow.library import Library

Logged = tuple[int, int, bytes, float, bytes | None]
"""A request whose answer is logged: its first row in the batch and the one behind its last, its id, the seconds since
it came, its trace."""


class _Lent:
    """An engine in use; its lease ends with the last reference."""

    __slots__ = ("__weakref__", "engine", "running")

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.running = False
        """Whether a batch is being run: one at a time is."""


class Task:
    """Runs the batches of one kind of request on the door's threads. `offer` is called there, with digests of the
    inputs where `digested`. `unsound` is told of rows whose answers are no numbers.
    """

    def __init__(self, lent: _Lent, batch: Batch, offer: Callable[[Answered], None], digested: bool,
                 unsound: Callable[[str, int, int], None]) -> None:
        self.batch = batch
        self._lent = lent
        self._unsound = unsound
        self._offer = offer
        self._digested = digested

    def __call__(self, rows: int, raw: Sequence[bytes], logged: Sequence[Logged]) -> list[bytes]:
        """Raw contents of each output for all rows. Raises Invalid, Unavailable."""
        self._lent.running = True
        try:
            return self._answer(rows, raw, logged)
        finally:
            self._lent.running = False

    def _answer(self, rows: int, raw: Sequence[bytes], logged: Sequence[Logged]) -> list[bytes]:
        feed = self.batch.feed(rows, raw)
        outputs = self.batch.run(feed)
        engine = self._lent.engine
        if not sound(outputs):
            self._unsound(engine.manifest.model, engine.manifest.version, unsound_rows(engine.read(outputs)))
        for start, stop, request_id, waited_s, traceparent in logged:
            part = {name: array[start:stop] for name, array in outputs.items()}
            answered = Answered(engine.manifest.model, engine.manifest.version, request_id.decode(), engine.read(part),
                                waited_s, traceparent.decode("ascii", "replace") if traceparent else None, "",
                                engine.digests(feed.arrays, start, min(stop, start + MAX_LOGGED_ROWS))
                                if self._digested else ())
            self._offer(answered)
        return self.batch.written(outputs)


@dataclass(frozen=True, slots=True)
class Learnt:
    """A form, the bounds of its version, and what runs it. `quick`: a full batch is short. `steady`: how long a run
    takes follows from its rows. `pace`: expected seconds of a batch of one row, and of each further row."""

    model: str
    version: str
    limits: Limits
    pace: tuple[float, float]
    quick: bool
    steady: bool
    form: Form
    task: Task


@dataclass(frozen=True, slots=True)
class Counted:
    """What a door did for one version since it last told. Times in seconds, in sum but for `last_ago_s`.

    `steps_s`: waiting, joining, running, writing. `batches`: count, and the latter three, by rows.
    """

    model: str
    version: str
    outcomes: Mapping[str, int]
    rows: int
    success_s: float
    fail_s: float
    steps_s: Sequence[float]
    last_ago_s: float | None
    batches: Mapping[int, tuple[int, float, float, float]]


class Forms:
    """Belongs to the event loop. `offer` is given the answers that are logged, on the threads that run batches, and
    digests of their inputs where `digested`.
    """

    def __init__(self, library: Library, clock: Clock, offer: Callable[[Answered], None], digested: bool) -> None:
        self._library = library
        self._clock = clock
        self._offer = offer
        self._digested = digested
        self._lent: dict[tuple[str, str], _Lent] = {}
        self._tasks: dict[tuple[str, str, object], Task] = {}
        self.leases = 0
        """Leases that last as long as a door may use a version; not requests."""

    def learn(self, message: bytes) -> Learnt | None:
        """What holds for every request of this one's form until something changes; None when each must be read."""
        try:
            request = oip.ModelInferRequest.FromString(message)
            if not request.model_version and self._library.trial(request.model_name) is not None:
                # Which version answers is decided for each request while a candidate is tried.
                return None
            with self._library.lease(request.model_name, request.model_version) as engine:
                form = engine.form(request)
        except (DecodeError, LeptonError):
            return None
        if form is None:
            return None
        model, version = engine.manifest.model, str(engine.manifest.version)
        lent = self._lent.get((model, version)) or self._lend(model, version)
        task = self._tasks.setdefault((model, version, form.batch.key),
                                      Task(lent, form.batch, self._offer, self._digested, self._library.unsound))
        limits = engine.limits
        return Learnt(model, version, limits, engine.pace.line, engine.is_quick(limits.max_rows), engine.is_steady,
                      form, task)

    def forget(self) -> None:
        """Nothing that was learnt holds any more; whoever has it still may finish with it."""
        self._lent.clear()
        self._tasks.clear()

    def running(self, model: str) -> bool:
        """Whether a batch of the model is being run for a door."""
        return any(lent.running for (name, _), lent in self._lent.items() if name == model)

    def count(self, counted: Counted) -> None:
        """Add to a version's statistics; those of a version that has left memory are gone with it."""
        try:
            lease = self._library.lease(counted.model, counted.version)
        except LeptonError:
            return
        self._library.parking.asked(counted.model)
        answered = counted.outcomes.get("ok", 0)
        ago_s = counted.last_ago_s
        last = 0.0 if ago_s is None else self._clock.monotonic() - ago_s
        with lease as engine:
            queue_s, input_s, infer_s, output_s = counted.steps_s
            engine.ran_elsewhere(Work(
                answered, counted.outcomes, counted.rows, counted.success_s, counted.fail_s, queue_s, input_s,
                infer_s, output_s, last,
                tuple(Batches(rows, *one) for rows, one in counted.batches.items())))

    def _lend(self, model: str, version: str) -> _Lent:
        loop, lease = asyncio.get_running_loop(), self._library.lease(model, version)
        lent = self._lent[model, version] = _Lent(lease.last())
        self.leases += 1

        def release() -> None:
            self.leases -= 1
            lease.__exit__(None, None, None)

        def let_go() -> None:
            # On whichever thread the last reference goes. A loop that has ended has closed what its leases kept.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(release)

        weakref.finalize(lent, let_go).atexit = False
        return lent
