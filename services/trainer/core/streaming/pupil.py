"""The whole of a stream's learning between records and bytes: what was read, what waits, what is known and how well.

Everything that counts is in `state()`: whoever kills the process and gives the bytes and the records after them to
another loses nothing and counts nothing twice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from threadpoolctl import threadpool_limits

from lepton.contracts import codec, features
from lepton.contracts.features import EVENT_ID
from lepton.contracts.pb.outcomes_pb2 import Outcome
from lepton.contracts.pipeline import Pipeline
from lepton.contracts.topics import Topic
from lepton.errors import Invalid
from services.trainer.core.dataset import HELD_OUT, LABEL, MAX_CLASSES, MAX_LABEL, roles, texts
from services.trainer.core.lessons.columns import columns_of
from services.trainer.core.preparing.rows import Inputs, inputs_of
from services.trainer.core.streaming.course import classes_of, course_digest, course_of, stream_of
from services.trainer.core.streaming.learner import StreamLearner, under
from services.trainer.core.streaming.record import Record
from services.trainer.core.streaming.trial import Trial
from services.trainer.core.streaming.waiting import WaitingRoom
from services.trainer.core.weights import pack, unpack

Array = npt.NDArray[Any]

FEATURES, OUTCOMES = "features", "outcomes"
MICRO_BATCH = 64
"""Rows that are learnt in one step: the cost of a step grows with their square."""
MIN_HELD_OUT_ROWS = 20
"""Fewer held-out rows judge no candidate."""


class Given(NamedTuple):
    """A record of one of the two streams, and its place."""

    stream: str
    partition: int
    offset: int
    value: bytes


@dataclass(frozen=True, slots=True)
class Report:
    """What became of records. `refused` are places in what was given, with the reason and the field."""

    seen: int
    left_out: int
    waiting: dict[str, int]
    figures: dict[str, float]
    due: bool
    """Whether so many rows were learnt since the last candidate that the next is."""
    refused: list[tuple[int, str, str]] = field(default_factory=list)


class Pupil:
    """One pipeline's learner, begun or gone on with. Raises Invalid for bytes that are no state of its course."""

    def __init__(self, pipeline: Pipeline, generation: int, state: bytes | None = None) -> None:
        torch.set_num_threads(1)
        # For good: so many threads, so much rounding, and none of the matrices is worth a second one.
        threadpool_limits(limits=1, user_api="blas")
        torch.set_deterministic_debug_mode("error")
        course, stream = course_of(pipeline), stream_of(pipeline)
        assert stream is not None and pipeline.gate is not None
        self._pipeline, self._course, self._stream = pipeline, course, stream
        self._digest = course_digest(pipeline, generation)
        self._held_out = pipeline.gate.held_out
        self._columns = columns_of(pipeline)
        self.classes = list(classes_of(pipeline))
        self.learner = StreamLearner(course)
        self.record = Record(course.task)
        self.trial = Trial()
        self._room = WaitingRoom(self._columns, stream.wait_rows)
        self._outcome = codec.reader(Topic.OUTCOMES, Outcome)
        self._left_out = 0
        self._since_offer = 0
        # By stream and partition: the first offset ever taken, and the next.
        self._offsets: dict[str, list[int]] = {}
        if state is not None:
            self._load(state)

    @property
    def offsets(self) -> dict[str, list[int]]:
        """`stream:partition` to the first offset taken and the next."""
        return self._offsets

    def take(self, records: Sequence[Given]) -> Report:
        """Learn what these complete. Records that were taken before are passed over."""
        refused: list[tuple[int, str, str]] = []
        outcomes: dict[int, Outcome] = {}
        for place, record in enumerate(records):
            if not self._new(record):
                continue
            try:
                if record.stream == FEATURES:
                    self._room.add_rows(record.partition, record.value)
                else:
                    outcomes[place] = self._outcome(record.value)
            except Invalid as error:
                refused.append((place, error.message, error.field or ""))
        refused += self._add_labels(outcomes)
        self._learn(self._room.leave())
        return Report(self.learner.seen, self._left_out, self._room.waiting, self.record.figures(), self.due,
                      sorted(refused))

    @property
    def due(self) -> bool:
        return self._since_offer >= self._stream.candidate_rows and self.trial.rows >= MIN_HELD_OUT_ROWS and \
            (self._course.task == "regression" or len(self.classes) > 1)

    def offered(self) -> None:
        """The state as it was is a candidate: what judges the next one begins now."""
        self._since_offer = 0
        self.trial.clear()

    def state(self) -> bytes:
        """The same learning gives the same bytes, however often it was stopped."""
        parts = {"learner": self.learner.arrays(), "record": self.record.arrays(), "room": self._room.arrays(),
                 "trial": self.trial.arrays()}
        arrays = {f"{part}/{name}": array for part, some in parts.items() for name, array in some.items()}
        return pack(arrays, {"course": self._digest, "learner": self.learner.about(), "classes": self.classes,
                             "seen": self.learner.seen, "left_out": self._left_out, "since_offer": self._since_offer,
                             "held_out": self.trial.rows, "offsets": self._offsets})

    def _load(self, state: bytes) -> None:
        arrays, about = unpack(state)
        if about.get("course") != self._digest:
            raise Invalid("this state was learnt for another course", field="course",
                          remedy="learn the stream anew from its beginning")
        self.learner.load(under(arrays, "learner"), about["learner"])
        self.record.load(under(arrays, "record"))
        self._room.load(under(arrays, "room"))
        self.trial.load(under(arrays, "trial"))
        self.classes, self._offsets = list(about["classes"]), dict(about["offsets"])
        self._left_out, self._since_offer = int(about["left_out"]), int(about["since_offer"])

    def _new(self, record: Given) -> bool:
        stream, partition, offset, _ = record
        taken = self._offsets.setdefault(f"{stream}:{partition}", [offset, offset])
        if offset < taken[1]:
            return False
        taken[1] = offset + 1
        return True

    def _add_labels(self, outcomes: Mapping[int, Outcome]) -> list[tuple[int, str, str]]:
        """Those of the label's type wait for their rows; the others are refused, one by one."""
        if not outcomes:
            return []
        try:
            self._room.add_labels(features.outcome_table(self._pipeline, list(outcomes.values())))
        except Invalid as error:
            if len(outcomes) == 1:
                return [(place, error.message, error.field or "") for place in outcomes]
            return [refused for place, outcome in outcomes.items()
                    for refused in self._add_labels({place: outcome})]
        return []

    def _learn(self, rows: pa.Table) -> None:
        if not rows.num_rows:
            return
        inputs, truth = inputs_of(self._course.fields, rows), self._truth(rows.column(LABEL))
        dropping = [one.missing.kind == "drop" for one in self._course.fields]
        keep = ~inputs.missing[:, dropping].any(axis=1) & (truth >= 0 if self._course.task == "classification"
                                                           else np.abs(truth) <= MAX_LABEL)
        held = roles(rows.column(EVENT_ID).to_pylist(), self._held_out) == HELD_OUT
        self._left_out += int((~keep).sum())
        wanted = np.flatnonzero(keep)
        for begin in range(0, len(wanted), MICRO_BATCH):
            which = wanted[begin:begin + MICRO_BATCH]
            self._step(inputs.take(which), truth[which], held[which])

    def _step(self, rows: Inputs, truth: Array, held: Array) -> None:
        if self._course.outliers.action == "quarantine" and self.learner.preparation is not None:
            inside = np.flatnonzero(~self.learner.preparation.outside(rows))
            self._left_out += rows.rows - len(inside)
            rows, truth, held = rows.take(inside), truth[inside], held[inside]
        scores = self.learner.test_then_train(rows, truth)
        self.record.update(scores, truth)
        self.trial.add(rows.take(np.flatnonzero(held)), truth[held], scores[held])
        self._since_offer += rows.rows

    def _truth(self, labels: pa.ChunkedArray) -> Array:
        """Class numbers, -1 for one class too many, or numbers, infinite where there is none."""
        if self._course.task == "regression":
            numbers = np.asarray(labels.to_numpy(), dtype=np.float64)
            return np.where(np.isfinite(numbers), numbers, np.inf)
        named = texts(labels, self._pipeline.label_type or "")
        places = {name: place for place, name in enumerate(self.classes)}
        for name in named:
            if name not in places and len(places) < MAX_CLASSES:
                places[name] = len(places)
        self.classes = list(places)
        return np.array([places.get(name, -1) for name in named], dtype=np.int64)
