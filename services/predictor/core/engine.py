"""One version of a model in memory: its session, what it takes and gives, and how its requests are batched."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
from google.protobuf import struct_pb2

from lepton.clock import Clock
from lepton.contracts.pb import grpc_service_pb2 as oip
from lepton.contracts.pb import models_pb2
from lepton.contracts.pb.prediction_pb2 import RowPrediction
from services.predictor.core import answers, graph, rows
from services.predictor.core.answers import Answers
from services.predictor.core.batcher import Arrays, Batcher, Limits
from services.predictor.core.oip.config import configuration
from services.predictor.core.oip.extras import Regions
from services.predictor.core.session import Options, Session, Timing
from services.predictor.core.signature import ATTRIBUTIONS, Feed, Signature, of_manifest
from services.predictor.core.tensors import Asked, Tensors

INLINE_LIMIT_S = 0.001
"""What takes longer would hold up the event loop noticeably, and runs on a worker thread."""

_TICK_S = 1e-7
"""Stands for a time too short for the clock."""

SCORING_ROWS = 4096
"""Rows of one run when scoring a stream: large enough that the cost per run vanishes, small enough for the cache."""


@dataclass(frozen=True, slots=True)
class Setup:
    """How models are loaded and batched here. A request may hold `max_request_rows`."""

    options: Options
    max_request_rows: int = 4096
    regions: Regions | None = None
    """Shared memory that requests may name."""


class Engine:
    """Loaded by `load`. `answer` (of `Batcher`) and all else belong to the event loop, `score` to any thread."""

    def __init__(self, manifest: models_pb2.ModelManifest, session: Session, signature: Signature, timing: Timing,
                 batcher: Batcher, setup: Setup) -> None:
        self.manifest = manifest
        self.signature = signature
        self.timing = timing
        self.classes = tuple(manifest.classes)
        self._session = session
        self._batcher = batcher
        self.answer = batcher.answer
        self.tally = batcher.tally
        self._max_rows = setup.max_request_rows
        self._tensors = Tensors(signature, str(manifest.version), setup.max_request_rows, setup.regions, self.classes)
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
        batcher = Batcher(session.run, limits, clock, inline_rows=inline_rows(timing), varying=varying)
        return cls(manifest, session, signature, timing, batcher, setup)

    @property
    def provider(self) -> str:
        return self._session.provider

    @property
    def waiting_rows(self) -> int:
        return self._batcher.counts.waiting_rows

    def take_work(self) -> tuple[int, int]:
        """Batches and rows run for requests since the last call."""
        counts = self._batcher.counts
        batches, rows = counts.batches - self._told[0], counts.rows - self._told[1]
        self._told = (counts.batches, counts.rows)
        return batches, rows

    def prepare(self, request: oip.ModelInferRequest) -> Asked:
        """Raises Invalid, also for outputs that do not exist: before anything is run. Takes `request` apart."""
        return self._tensors.read(request)

    def prepare_rows(self, named: Sequence[struct_pb2.Struct], explain: bool = False) -> Feed:
        return rows.from_structs(named, self.signature, self._max_rows, explain)

    def respond(self, outputs: Arrays, asked: Asked) -> oip.ModelInferResponse:
        return self._tensors.write(outputs, asked, self.manifest.model)

    def read(self, outputs: Arrays) -> Answers:
        return answers.read(outputs, self.classes)

    def explain(self, outputs: Arrays, into: Sequence[RowPrediction]) -> None:
        """Put what each field did into the rows' messages; only for outputs of a feed that asked for it."""
        names = [tensor.name for tensor in self.signature.fields]
        for row, effects in zip(into, outputs[ATTRIBUTIONS].tolist(), strict=True):
            row.attributions.update(zip(names, effects, strict=True))

    def score(self, batch: pa.RecordBatch) -> list[Answers]:
        """Answers for every row in order, in runs of at most SCORING_ROWS; blocks. Raises Invalid as `rows` does."""
        found = []
        for start in range(0, batch.num_rows, SCORING_ROWS):
            feed = rows.from_batch(batch.slice(start, SCORING_ROWS), self.signature)
            found.append(self.read(self._session.run(feed.arrays)))
        return found

    def is_quick(self, rows: int) -> bool:
        """Whether scoring so many rows is short enough to be done on the event loop."""
        return rows <= inline_rows(self.timing)

    def limit(self, limits: Limits) -> None:
        """Batch by other limits from now on; whether it runs on a thread stays as it was measured at the load."""
        self._batcher.limits = limits

    def config(self, platform: str, versions: Sequence[int]) -> oip.ModelConfig:
        """As the protocol says it; `versions` are those of the model in memory."""
        told, limits = configuration(self.manifest, self.signature, self.provider, self._max_rows), self._batcher.limits
        told.platform = platform
        told.dynamic_batching.preferred_batch_size.append(limits.max_rows)
        told.dynamic_batching.max_queue_delay_microseconds = round(limits.max_delay_s * 1e6)
        told.dynamic_batching.default_queue_policy.max_queue_size = limits.queue_rows
        told.version_policy.specific.versions.extend(versions)
        return told

    def close(self) -> None:
        self._batcher.close()


def inline_rows(timing: Timing) -> int:
    """Rows that take no longer than INLINE_LIMIT_S, judged by what was measured at warm-up; 0 when even one does."""
    if timing.single_s > INLINE_LIMIT_S:
        return 0
    return max(1, int(timing.rows * INLINE_LIMIT_S / max(timing.batch_s, _TICK_S)))
