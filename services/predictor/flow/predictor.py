"""What a model answers: to tensors, to rows of named fields, to batches of a stream; and what it says of itself."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from lepton.clock import Clock
from lepton.contracts.pb import grpc_service_pb2 as oip
from lepton.contracts.pb import prediction_pb2
from lepton.errors import Refused, Unavailable
from services.predictor.core.answers import Answers, named
from services.predictor.core.engine import Engine
from services.predictor.flow.beside import Beside, Scored, key_of
from services.predictor.flow.library import Library

PLATFORM = "onnxruntime_onnx"


class Asked(Protocol):
    """What a door knows of a request. Times are monotonic seconds."""

    deadline: float
    arrived: float

    def traceparent(self) -> str | None:
        """The caller's trace, if any."""

    def local(self) -> bool:
        """Whether the caller is on this machine."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A request's answer, as it is offered to the log of predictions."""

    model: str
    version: int
    request_id: str
    answers: Answers
    latency_s: float
    traceparent: str | None


class Predictor:
    """`offer` is given `log_share` of requests' answers, for the log; it must not wait."""

    def __init__(self, library: Library, beside: Beside, clock: Clock, offer: Callable[[Answered], None],
                 log_share: float) -> None:
        self._library = library
        self._beside = beside
        self._clock = clock
        self._offer = offer
        self._log_share = log_share
        self._log_due = 0.0

    async def infer(self, request: oip.ModelInferRequest, asked: Asked) -> oip.ModelInferResponse:
        """Raises Invalid, Missing, Busy, Unavailable, and TimeoutError past the deadline (then nothing was run).

        `request` is taken apart.
        """
        trial = None if request.model_version else self._library.trial(request.model_name)
        key = "" if trial is None else key_of(request)
        with (self._library.lease(request.model_name, request.model_version, key) as engine,
              engine.tally.request(self._clock.monotonic, asked.arrived) as timed):
            read = engine.prepare(request)
            if read.extras is not None and read.extras.shared and not asked.local():
                raise Refused("shared memory is for callers on the same machine", field="shared_memory_region",
                              remedy="send tensors in the request")
            if trial is None:
                outputs = await engine.answer(timed.read(read.feed), asked.deadline)
            else:
                engine, outputs = await self._beside.answer(trial, engine, timed, read.feed, asked.deadline)
            if self._log_is_due():
                self._log(engine, read.request_id, engine.read(outputs), asked)
            timed.answered()
            return engine.respond(outputs, read)

    async def predict(self, request: prediction_pb2.PredictRequest, asked: Asked) -> prediction_pb2.PredictResponse:
        """The same by named fields."""
        trial = None if request.version else self._library.trial(request.model)
        key = request.entity or request.request_id
        with (self._library.lease(request.model, str(request.version or ""), key) as engine,
              engine.tally.request(self._clock.monotonic, asked.arrived) as timed):
            feed = engine.prepare_rows(request.rows, request.explain)
            if trial is None:
                outputs = await engine.answer(timed.read(feed), asked.deadline)
            else:
                engine, outputs = await self._beside.answer(trial, engine, timed, feed, asked.deadline)
            answers = engine.read(outputs)
            if self._log_is_due():
                self._log(engine, request.request_id, answers, asked)
            timed.answered()
            rows = named(answers)
            if request.explain:
                engine.explain(outputs, rows)
            return prediction_pb2.PredictResponse(model=request.model, version=engine.manifest.version,
                                                  request_id=request.request_id, rows=rows)

    async def score(self, model: str, batch: pa.RecordBatch) -> Scored | None:
        """Answers for a features batch; None when the model has no version that answers.

        Raises Unavailable while the registry's champion is still to be loaded, or the model fails; Invalid when the
        rows are not what the version takes.
        """
        if self._library.awaits(model):
            raise Unavailable(f"the champion of {model} is not in memory yet", remedy="wait until it is")
        if not self._library.serving(model):
            return None
        trial = self._library.trial(model)
        if trial is not None:
            return await self._beside.score(model, trial, batch)
        with self._library.lease(model) as engine:
            if engine.is_quick(batch.num_rows):
                parts = engine.score(batch)
            else:
                parts = await asyncio.to_thread(engine.score, batch)
            return Scored(engine.manifest.version, parts)

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
        if model:
            # Says what is missing: the model, its version, or that it is still being loaded.
            self._library.lease(model, version)
        found = oip.ModelStatisticsResponse()
        now, wall_s = self._clock.monotonic(), self._clock.now().timestamp()
        for name in [model] if model else self._library.models():
            for number in [int(version)] if model and version else self._library.resident(name):
                with self._library.lease(name, str(number)) as engine:
                    found.model_stats.append(engine.tally.report(name, number, now, wall_s))
        return found

    def _log_is_due(self) -> bool:
        self._log_due += self._log_share
        if self._log_due < 1:
            return False
        self._log_due -= 1
        return True

    def _log(self, engine: Engine, request_id: str, answers: Answers, asked: Asked) -> None:
        self._offer(Answered(engine.manifest.model, engine.manifest.version, request_id, answers,
                             self._clock.monotonic() - asked.arrived, asked.traceparent()))
