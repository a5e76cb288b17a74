"""One version of a model in memory: its session, what it takes and gives, and how its requests are batched."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from google.protobuf import struct_pb2

from lepton.clock import Clock
from lepton.contracts.pb import grpc_service_pb2 as oip
from lepton.contracts.pb import models_pb2
from lepton.contracts.pb.prediction_pb2 import RowPrediction
from services.predictor.core import answers, graph, rows
from services.predictor.core.answers import Answers
from services.predictor.core.batching.batcher import Arrays, Batcher, checked
from services.predictor.core.batching.limits import Limits, describe
from services.predictor.core.batching.pace import Pace
from services.predictor.core.digests import digests
from services.predictor.core.oip.config import configuration
from services.predictor.core.oip.extras import Regions
from services.predictor.core.oip.tally import Tally, Work
from services.predictor.core.oip.wishes import wishes
from services.predictor.core.plain.forms import Form, form_of
from services.predictor.core.recent.newest import Newest
from services.predictor.core.session import CPU, Options, Session, Timing
from services.predictor.core.signature import ATTRIBUTIONS, PARTS, Feed, Observe, Signature, of_manifest
from services.predictor.core.tensors import Asked, Tensors

if TYPE_CHECKING:
    import pyarrow as pa

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
    observe: Callable[[str, int], Observe] | None = None
    """Makes what is called after batches of a version that hold traced requests."""


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
        self.cost = 0
        """Bytes it takes, where somebody counts them."""

    @classmethod
    def load(cls, manifest: models_pb2.ModelManifest, data: bytes, setup: Setup, limits: Limits,
             clock: Clock) -> "Engine":
        """Check, load and warm up; blocks, so call it in a thread. `data` must already match the manifest's digest.

        Raises Refused when file and manifest do not agree, or the file holds what may not be loaded.
        """
        graph.check(data, manifest.operators, setup.options.domains)
        signature = of_manifest(manifest)
        answers.check(manifest, signature)
        session = Session(data, signature, setup.options)
        timing = session.warm_up(limits.max_rows, clock)
        varying = [tensor.name for tensor in signature.inputs.values() if -1 in tensor.tail]
        observe = setup.observe(manifest.model, manifest.version) if setup.observe else None
        pace = Pace(timing.single_s, timing.batch_s, timing.rows)
        batcher = Batcher(session.run, limits, clock, inline_rows=inline_rows(timing), varying=varying,
                          observe=observe, pace=pace)
        return cls(manifest, session, signature, timing, batcher, setup)

    @property
    def provider(self) -> str:
        return self._session.provider

    @property
    def measured(self) -> dict[str, str]:
        """What the warm-up found, and what follows: microseconds of a run of one row and of a batch; rows of the
        largest batch that runs on the event loop, 0 for none."""
        timing = self.timing
        return {"warm_up_row_us": f"{timing.single_s * 1e6:.1f}", "warm_up_batch_us": f"{timing.batch_s * 1e6:.1f}",
                "warm_up_batch_rows": str(timing.rows), "inline_rows": str(inline_rows(timing))}

    @property
    def pace(self) -> Pace:
        """How long its batches take."""
        return self._batcher.pace

    @property
    def waiting_rows(self) -> int:
        return self._batcher.counts.waiting_rows

    @property
    def pending(self) -> int:
        """Requests that wait for their batch."""
        return self._batcher.pending

    def take_work(self) -> tuple[int, int]:
        """Batches and rows run for requests since the last call."""
        counts = self._batcher.counts
        batches, rows = counts.batches - self._told[0], counts.rows - self._told[1]
        self._told = (counts.batches, counts.rows)
        return batches, rows

    def form(self, request: oip.ModelInferRequest) -> Form | None:
        """What holds for every request of this one's form; None when each must be read, or queued beside the others.

        Raises Invalid as `prepare`. Takes `request` apart.
        """
        if not self.limits.plain and not (self.limits.unordered and self.is_quick(self.limits.max_rows)):
            return None
        form = form_of(request, self._tensors, self.signature, self.run)
        if form is not None and self.is_quick(self.limits.max_rows) and not self.is_quick(form.rows):
            # Models that are quick share a thread there, which one large request would keep from the others.
            return None
        return form

    def run(self, feed: Feed) -> Arrays:
        """Outputs of one batch; blocks, on any thread. Raises as `answer` does for what goes wrong while it runs."""
        return checked(self._session.run(feed.arrays), feed.rows)

    def resume(self, tally: Tally) -> None:
        """Go on counting where the same version left off, before it left memory."""
        self.tally = self._batcher.tally = tally

    @property
    def limits(self) -> Limits:
        return self._batcher.limits

    def ran_elsewhere(self, work: Work) -> None:
        """Count what `run` did for requests that were not prepared here. For the event loop."""
        self.tally.add(work)
        self._batcher.counts.batches += sum(batches.count for batches in work.batches)
        self._batcher.counts.rows += sum(batches.count * batches.rows for batches in work.batches)

    def prepare(self, request: oip.ModelInferRequest) -> Asked:
        """Raises Invalid, also for outputs that do not exist: before anything is run. Takes `request` apart."""
        if not request.parameters:
            return self._tensors.read(request)
        priority, patience_s = wishes(request.parameters)
        asked = self._tensors.read(request)
        asked.feed.priority, asked.feed.patience_s = priority, patience_s
        return asked

    def prepare_rows(self, named: Sequence[struct_pb2.Struct], explain: bool = False,
                     newest: Sequence[Newest | None] = ()) -> Feed:
        """Raises Invalid naming field and row. `newest`: by row, where the fields are from that it does not name."""
        if any(newest):
            # Brings Arrow with it, which is here already: the remembered rows are in it.
            from services.predictor.core.recent.joining import joined

            return joined(named, newest, self.signature, self._max_rows, explain)
        return rows.from_structs(named, self.signature, self._max_rows, explain)

    def check_rows(self, count: int, explain: bool = False) -> None:
        """Raises Invalid for rows that one request may not hold."""
        rows.check_count(count, self._max_rows, self.signature, explain)

    def respond(self, outputs: Arrays, asked: Asked) -> oip.ModelInferResponse:
        return self._tensors.write(outputs, asked, self.manifest.model)

    def digests(self, arrays: Arrays, start: int, stop: int) -> list[bytes]:
        """What stands for the inputs of each of these rows."""
        return digests(arrays, self.signature, start, stop)

    def read(self, outputs: Arrays) -> Answers:
        return answers.read(outputs, self.classes)

    def explain(self, outputs: Arrays, into: Sequence[RowPrediction]) -> None:
        """Put what each field, and the parts of its value, did into the rows' messages.

        Only for outputs of a feed that asked for it.
        """
        names = [tensor.name for tensor in self.signature.fields]
        for row, effects in zip(into, outputs[ATTRIBUTIONS].tolist(), strict=True):
            row.attributions.update(zip(names, effects, strict=True))
        for name in self.signature.parted:
            told = outputs[PARTS + name]
            for row, effects in zip(into, told.reshape(len(told), -1).tolist(), strict=True):
                row.attribution_parts[name].shape.extend(told.shape[1:])
                row.attribution_parts[name].values.extend(effects)

    def score(self, batch: "pa.RecordBatch") -> list[Answers]:
        """Answers for every row in order, in runs of at most SCORING_ROWS; blocks. Raises Invalid as `from_batch`."""
        # Whoever scores no stream is spared Arrow, which is 30 MB.
        from services.predictor.core.streamed import fields

        found = []
        for start in range(0, batch.num_rows, SCORING_ROWS):
            feed = fields.from_batch(batch.slice(start, SCORING_ROWS), self.signature)
            found.append(self.read(self._session.run(feed.arrays)))
        return found

    def is_quick(self, rows: int) -> bool:
        """Whether scoring so many rows is short enough to be done on the event loop."""
        return rows <= inline_rows(self.timing)

    @property
    def is_steady(self) -> bool:
        """Whether how long a run takes follows from its rows: no values make it loop, no GPU is shared with others."""
        return self.provider == CPU and graph.is_straight(self.manifest.operators)

    def limit(self, limits: Limits) -> None:
        """Batch by other limits from now on; whether it runs on a thread stays as it was measured at the load."""
        self._batcher.limits = limits

    def config(self, platform: str, versions: Sequence[int]) -> oip.ModelConfig:
        """As the protocol says it; `versions` are those of the model in memory."""
        told = configuration(self.manifest, self.signature, self.provider, self._max_rows)
        told.platform = platform
        describe(told, self.limits)
        most_s = self.limits.wait_s(self.pace.of(self.limits.max_rows))
        told.parameters["max_wait_us"].string_value = f"{most_s * 1e6:.0f}"
        for name, value in self.measured.items():
            told.parameters[name].string_value = value
        told.version_policy.specific.versions.extend(versions)
        return told

    def close(self) -> None:
        self._batcher.close()


def inline_rows(timing: Timing) -> int:
    """Rows that take no longer than INLINE_LIMIT_S, judged by what was measured at warm-up; 0 when even one does."""
    if timing.single_s > INLINE_LIMIT_S:
        return 0
    return max(1, int(timing.rows * INLINE_LIMIT_S / max(timing.batch_s, _TICK_S)))
