"""What a model answers: to tensors, to rows of named fields, to batches of a stream; and what it says of itself."""

import asyncio
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from lepton.clock import Clock
from lepton.contracts.pb import grpc_service_pb2 as oip
from lepton.contracts.pb import prediction_pb2
from lepton.errors import Invalid, Refused, Unavailable
from services.predictor.core.answers import Answers, named
from services.predictor.core.batching.batcher import Arrays
from services.predictor.core.batching.shedding import ALL, Cut, Shedding
from services.predictor.core.engine import Engine
from services.predictor.core.oip.wishes import wishes
from services.predictor.core.rollout.comparing import sound, sound_answers, unsound_rows
from services.predictor.core.signature import Course, Feed
from services.predictor.flow import asking
from services.predictor.flow.answered import MAX_LOGGED_ROWS, Answered, Logging
from services.predictor.flow.beside import Beside, Scored, entity_of, key_of
from services.predictor.flow.entities import Entities
from services.predictor.flow.library import Library

if TYPE_CHECKING:
    import pyarrow as pa

PLATFORM = "onnxruntime_onnx"
ALL_MODELS = ALL
"""Instead of a model's name: whatever has priority levels."""

log = logging.getLogger(__name__)


class Asked(Protocol):
    """What a door knows of a request. Times are monotonic seconds."""

    deadline: float
    arrived: float

    @property
    def course(self) -> Course | None:
        """What is told of the request's steps; None when it is not traced."""

    def traceparent(self) -> str | None:
        """The caller's trace, if any."""

    def local(self) -> bool:
        """Whether the caller is on this machine."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What one version in memory did for requests: as the protocol tells it, and beyond.

    `failures` by reason (`tally.REASONS`), together those of the statistics. `pending`: requests that wait for a batch.
    """

    statistics: oip.ModelStatistics
    failures: Mapping[str, int]
    pending: int


class Predictor:
    """`offer` is given answers to requests, for the log; it must not wait."""

    def __init__(self, library: Library, beside: Beside, entities: Entities, clock: Clock,
                 offer: Callable[[Answered], None], logging: Logging) -> None:
        self._library = library
        self._beside = beside
        self._entities = entities
        self._clock = clock
        self._offer = offer
        self._logging = logging
        self._log_due = 0.0
        self.shedding = Shedding(clock)
        self.gather: Callable[[], object] = lambda: None
        """Called before statistics are told: whoever else answers requests hands in what it counted."""
        self.pending: Callable[[str, int], int] = lambda model, version: 0
        """Requests for a version that wait elsewhere than in its engine."""

    async def infer(self, request: oip.ModelInferRequest, asked: Asked) -> oip.ModelInferResponse:
        """Raises Invalid, Missing, Busy, Unavailable, and TimeoutError past the deadline (then nothing was run).

        `request` is taken apart.
        """
        await self.awake(request.model_name, asked.deadline)
        trial = None if request.model_version else self._library.trial(request.model_name)
        key, entity = "" if trial is None else key_of(request), entity_of(request)
        with (self._library.lease(request.model_name, request.model_version, key) as engine,
              engine.tally.request(self._clock.monotonic, asked.arrived) as timed):
            if engine.limits.priority_levels:
                # Before its tensors are read: what is turned away is to cost next to nothing.
                self.shedding.enter(request.model_name, wishes(request.parameters)[0], engine.limits)
            read = engine.prepare(request)
            read.feed.course = asked.course
            if read.extras is not None and read.extras.shared and not asked.local():
                raise Refused("shared memory is for callers on the same machine", field="shared_memory_region",
                              remedy="send tensors in the request")
            if trial is None:
                outputs = await engine.answer(timed.read(read.feed), asked.deadline)
            else:
                engine, outputs = await self._beside.answer(trial, engine, timed, read.feed, asked.deadline)
            if not sound(outputs):
                # Tensors are given as the model gave them; that they are no numbers is told to whom it concerns.
                self._count_unsound(engine, engine.read(outputs))
            if self._log_is_due():
                self._log(engine, read.request_id, engine.read(outputs), asked, entity, read.feed)
            timed.answered()
            return engine.respond(outputs, read)

    async def predict(self, request: prediction_pb2.PredictRequest, asked: Asked) -> prediction_pb2.PredictResponse:
        """The same by named fields, and by what is remembered of entities."""
        await self.awake(request.model, asked.deadline)
        trial = None if request.version else self._library.trial(request.model)
        with (self._library.lease(request.model, str(request.version or ""), asking.key_of(request)) as engine,
              engine.tally.request(self._clock.monotonic, asked.arrived) as timed):
            self.shedding.enter(request.model, 0, engine.limits)
            gathered = asking.gather(request, engine, self._entities)
            feed, rows = gathered.feed, list[prediction_pb2.RowPrediction]()
            if feed is not None:
                feed.course = asked.course
                if trial is None:
                    outputs = await engine.answer(timed.read(feed), asked.deadline)
                else:
                    engine, outputs = await self._beside.answer(trial, engine, timed, feed, asked.deadline)
                if not sound(outputs):
                    engine, outputs = await self._instead(engine, feed, outputs, asked.deadline, request.version)
                answers = engine.read(outputs)
                # The log numbers the rows of a request; where some have no answer, the numbers would be others.
                if not gathered.errors and self._log_is_due():
                    self._log(engine, request.request_id, answers, asked, asking.about(request), feed)
                timed.answered()
                rows = named(answers)
                if request.explain:
                    engine.explain(outputs, rows)
            else:
                # Each row is told what is wrong with it: the request was answered, and nothing was run for it.
                timed.read(Feed({}, 0))
                timed.answered()
            return prediction_pb2.PredictResponse(model=request.model, version=engine.manifest.version,
                                                  request_id=request.request_id, rows=gathered.told(rows))

    async def score(self, model: str, batch: "pa.RecordBatch") -> Scored | None:
        """Answers for a features batch; None when the model has no version that answers.

        Raises Unavailable while the registry's champion is still to be loaded, or the model fails; Invalid when the
        rows are not what the version takes.
        """
        await self.awake(model)
        if self._library.awaits(model):
            raise Unavailable(f"the champion of {model} is not in memory yet", remedy="wait until it is")
        if not self._library.serving(model):
            return None
        trial = self._library.trial(model)
        if trial is not None:
            return await self._beside.score(model, trial, batch, self._sounded)
        with self._library.lease(model) as engine:
            if engine.is_quick(batch.num_rows):
                parts = engine.score(batch)
            else:
                parts = await asyncio.to_thread(engine.score, batch)
            return Scored(*await self._sounded(engine, batch, parts))

    def _count_unsound(self, engine: Engine, answers: Answers) -> None:
        self._library.unsound(engine.manifest.model, engine.manifest.version, unsound_rows(answers))

    async def _instead(self, engine: Engine, feed: Feed, outputs: Arrays, deadline: float,
                       version: int) -> tuple[Engine, Arrays]:
        """What the champion before answers to what the present one has no number for; where none is in memory, or a
        version was asked for by name, what there is."""
        self._count_unsound(engine, engine.read(outputs))
        model, before = engine.manifest.model, self._library.before(engine.manifest.model)
        if version or not before or before == engine.manifest.version:
            return engine, outputs
        with self._library.lease(model, str(before)) as other:
            if other.signature != engine.signature:
                return engine, outputs
            answered = await other.answer(feed, deadline)
        return (other, answered) if sound(answered) else (engine, outputs)

    async def _sounded(self, engine: Engine, batch: "pa.RecordBatch",
                       parts: Sequence[Answers]) -> tuple[int, Sequence[Answers]]:
        """What a stream is told of its rows, and by which version: `parts`, which the champion answered, unless they
        are no numbers and the champion before has some."""
        if all(map(sound_answers, parts)):
            return engine.manifest.version, parts
        for one in parts:
            self._count_unsound(engine, one)
        return await self._scored_before(engine, batch) or (engine.manifest.version, parts)

    async def _scored_before(self, champion: Engine, batch: "pa.RecordBatch") -> tuple[int, Sequence[Answers]] | None:
        """A stream's rows by the champion before; None where it cannot answer them either."""
        model = champion.manifest.model
        before = self._library.before(model)
        if not before or before == champion.manifest.version:
            return None
        with self._library.lease(model, str(before)) as engine:
            try:
                parts = await asyncio.to_thread(engine.score, batch)
            except Invalid:
                # It was made for other rows.
                return None
        return (before, parts) if all(map(sound_answers, parts)) else None

    def shed(self, model: str, keep: int, unnamed: bool, for_s: float, since: datetime) -> str:
        """Turn requests after level `keep` away for `for_s` from `since` on; what came of it. `unnamed`: of the level
        after it those too that name none. `model` may be ALL_MODELS.

        Raises Refused for a model without priority levels.
        """
        levels = self._library.levels(model)
        if model != ALL and not levels:
            raise Refused(f"{model} has no priority levels: all of its requests are equal", field="target",
                          remedy="set serve.batching.priority_levels of its pipeline")
        left_s = for_s - (self._clock.now() - since).total_seconds()
        if left_s <= 0:
            return f"the time in which requests of {_these(model)} were shed is over"
        self.shedding.begin(model, Cut(keep, unnamed), left_s)
        log.warning("requests of %s after priority %d are shed for %.0f s, by command", _these(model), keep, left_s)
        return f"requests of {_these(model)} after priority {keep} are turned away here for {left_s:.0f} s"

    def shed_no_more(self, model: str) -> str:
        """End that before its time; what came of it."""
        said = "are shed no more" if self.shedding.end(model) else "were not shed"
        return f"requests of {_these(model)} {said}"

    async def awake(self, model: str, deadline: float = math.inf) -> None:
        """Wait until a model that left memory for want of room is back. Raises as `infer`."""
        if self._library.parking.asked(model):
            await self._library.parking.wake(model, deadline)

    def describe(self, model: str, version: str = "") -> tuple[oip.ModelMetadataResponse, str]:
        """Metadata, and the execution provider in use. Raises as `infer` for what does not answer."""
        with self._library.lease(model, version) as engine:
            found = oip.ModelMetadataResponse(
                name=model, platform=PLATFORM,
                versions=[version] if version else [str(one) for one in self._library.resident(model)])
            for members, specs in ((found.inputs, engine.manifest.inputs), (found.outputs, engine.manifest.outputs)):
                for spec in specs:
                    members.add(name=spec.name, datatype=spec.datatype, shape=spec.shape)
            return found, engine.provider

    def config(self, model: str, version: str = "") -> oip.ModelConfig:
        """How a version is served. Raises as `infer` for what does not answer."""
        with self._library.lease(model, version) as engine:
            return engine.config(PLATFORM, self._library.resident(model))

    def statistics(self, model: str = "", version: str = "") -> oip.ModelStatisticsResponse:
        """What versions in memory did for requests since they were loaded; of all models when none is named.

        Raises as `infer` for a model or version that does not answer.
        """
        parked = {(name, number) for name, number, _ in self._library.parking.parked()}
        if model and not any(name == model and version in ("", str(number)) for name, number in parked):
            # Says what is missing: the model, its version, or that it is still being loaded.
            self._library.lease(model, version)
        return oip.ModelStatisticsResponse(model_stats=[one.statistics for one in self.observe(model, version)])

    def observe(self, model: str = "", version: str = "") -> list[Observed]:
        """`statistics`, and what the protocol has no words for."""
        self.gather()
        found = []
        now, wall_s = self._clock.monotonic(), self._clock.now().timestamp()
        for name in [model] if model else self._library.models():
            for number in [int(version)] if model and version else self._library.resident(name):
                with self._library.lease(name, str(number)) as engine:
                    found.append(Observed(engine.tally.report(name, number, now, wall_s), dict(engine.tally.failures),
                                          engine.pending + self.pending(name, number)))
        found += [Observed(tally.report(name, number, now, wall_s), dict(tally.failures), 0)
                  for name, number, tally in self._library.parking.parked()
                  if model in ("", name) and version in ("", str(number))]
        return found

    def _log_is_due(self) -> bool:
        self._log_due += self._logging.share
        if self._log_due < 1:
            return False
        self._log_due -= 1
        return True

    def _log(self, engine: Engine, request_id: str, answers: Answers, asked: Asked, entity: str, feed: Feed) -> None:
        told = engine.digests(feed.arrays, 0, min(feed.rows, MAX_LOGGED_ROWS)) if self._logging.digested else ()
        self._offer(Answered(engine.manifest.model, engine.manifest.version, request_id, answers,
                             self._clock.monotonic() - asked.arrived, asked.traceparent(), entity, told))


def _these(model: str) -> str:
    return "all models" if model == ALL else model
