"""One version of a model in memory: its session, what it takes and gives, and how its requests are batched."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
from google.protobuf import struct_pb2

from lepton.clock import Clock
from lepton.contracts.pb import grpc_service_pb2 as oip
from lepton.contracts.pb import models_pb2
from services.predictor.core import answers, graph, rows, tensors
from services.predictor.core.answers import Answers
from services.predictor.core.batcher import Arrays, Batcher, Limits
from services.predictor.core.session import Options, Session, Timing
from services.predictor.core.signature import Feed, Signature, of_manifest

INLINE_LIMIT_S = 0.001
"""A full batch that takes longer would hold up the event loop noticeably, and runs on a worker thread."""

SCORING_ROWS = 4096
"""Rows of one run when scoring a stream: large enough that the cost per run vanishes, small enough for the cache."""


@dataclass(frozen=True, slots=True)
class Setup:
    """How models are loaded and batched here. A request may hold `max_request_rows`."""

    options: Options
    max_request_rows: int = 4096


class Engine:
    """Loaded by `load`; its async methods belong to the event loop, `score` may run in any thread."""

    def __init__(self, manifest: models_pb2.ModelManifest, session: Session, signature: Signature, timing: Timing,
                 batcher: Batcher, max_request_rows: int) -> None:
        self.manifest = manifest
        self.signature = signature
        self.timing = timing
        self.classes = tuple(manifest.classes)
        self.version_text = str(manifest.version)
        self._session = session
        self._batcher = batcher
        self._max_rows = max_request_rows
        self._told = (0, 0)

    @classmethod
    def load(cls, manifest: models_pb2.ModelManifest, data: bytes, setup: Setup, limits: Limits,
             clock: Clock) -> "Engine":
        """Check, load and warm up; blocks, so call it in a thread. `data` must already match the manifest's digest.

        Raises Refused when file and manifest do not agree, or the file holds what may not be loaded.
        """
        graph.check(data, manifest.operators)
        signature = of_manifest(manifest)
        answers.check(manifest, signature)
        session = Session(data, signature, setup.options)
        timing = session.warm_up(limits.max_rows, clock)
        varying = [tensor.name for tensor in signature.inputs.values() if -1 in tensor.tail]
        batcher = Batcher(session.run, limits, clock, threaded=timing.batch_s > INLINE_LIMIT_S, varying=varying)
        return cls(manifest, session, signature, timing, batcher, setup.max_request_rows)

    @property
    def provider(self) -> str:
        return self._session.provider

    @property
    def threaded(self) -> bool:
        """Whether its requests run on a worker thread, because a full batch would hold up the event loop."""
        return self.timing.batch_s > INLINE_LIMIT_S

    @property
    def waiting_rows(self) -> int:
        return self._batcher.counts.waiting_rows

    def take_work(self) -> tuple[int, int]:
        """Batches and rows run for requests since the last call."""
        counts = self._batcher.counts
        batches, rows = counts.batches - self._told[0], counts.rows - self._told[1]
        self._told = (counts.batches, counts.rows)
        return batches, rows

    def prepare(self, request: oip.ModelInferRequest) -> Feed:
        """Raises Invalid, also for outputs that do not exist: before anything is run."""
        tensors.requested(request, self.signature)
        return tensors.decode(request, self.signature, self._max_rows)

    def prepare_rows(self, named: Sequence[struct_pb2.Struct]) -> Feed:
        return rows.from_structs(named, self.signature, self._max_rows)

    def submit(self, feed: Feed, deadline: float) -> asyncio.Future[Arrays]:
        return self._batcher.submit(feed, deadline)

    def respond(self, outputs: Arrays, request: oip.ModelInferRequest) -> oip.ModelInferResponse:
        return tensors.encode(outputs, self.signature, request, self.version_text)

    def read(self, outputs: Arrays) -> Answers:
        return answers.read(outputs, self.classes)

    def score(self, batch: pa.RecordBatch) -> list[Answers]:
        """Answers for every row in order, in runs of at most SCORING_ROWS; blocks. Raises Invalid as `rows` does."""
        found = []
        for start in range(0, batch.num_rows, SCORING_ROWS):
            feed = rows.from_batch(batch.slice(start, SCORING_ROWS), self.signature)
            found.append(self.read(self._session.run(feed.arrays)))
        return found

    def is_quick(self, rows: int) -> bool:
        """Whether scoring so many rows is short enough to be done on the event loop."""
        return self.timing.batch_s * rows <= INLINE_LIMIT_S * self.timing.rows

    def limit(self, limits: Limits) -> None:
        """Batch by other limits from now on; whether it runs on a thread stays as it was measured at the load."""
        self._batcher.limits = limits

    def close(self) -> None:
        self._batcher.close()
