"""What a stream's learner is to learn, from the Pipeline alone; knows no torch, so that the trainer itself can ask."""

import hashlib
import json
from dataclasses import dataclass

from lepton.contracts.modelling.training_blocks import Stream
from lepton.contracts.pipeline import Pipeline
from lepton.contracts.pipeline_blocks import Outliers
from services.trainer.core.plan import planned_fields
from services.trainer.core.preparing.field import PlannedField

_FORM = 1
"""Grows when a state of before can no longer be read."""


@dataclass(frozen=True, slots=True)
class Course:
    """What is to be learnt: classes (numbers from 0, new ones at any time) or a number, from these fields."""

    fields: tuple[PlannedField, ...]
    outliers: Outliers
    task: str
    classes: int = 1
    seed: int = 7
    width: int = 128
    """Random features an expert has."""
    replay: int = 1024
    """Rows kept for beginning anew."""


def stream_of(pipeline: Pipeline) -> Stream | None:
    """Its `train.stream`; None where nothing is learnt from the stream."""
    if pipeline.model is None or pipeline.task not in ("classification", "regression"):
        return None
    return pipeline.model.train.stream


def classes_of(pipeline: Pipeline) -> tuple[str, ...]:
    """Classes known before any label; the others come as they are seen."""
    if pipeline.task != "classification":
        return ()
    return ("false", "true") if pipeline.label_type == "bool" else tuple(pipeline.label_categories or ())


def course_of(pipeline: Pipeline) -> Course:
    stream = stream_of(pipeline)
    assert stream is not None and pipeline.model is not None and pipeline.task is not None
    return Course(planned_fields(pipeline), pipeline.clean.outliers, pipeline.task, max(1, len(classes_of(pipeline))),
                  pipeline.model.parameters.seed, stream.width, stream.replay_rows)


def course_digest(pipeline: Pipeline, generation: int) -> str:
    """What a state belongs to: under another digest the stream is learnt anew from its beginning."""
    course, gate = course_of(pipeline), pipeline.gate
    said = [_FORM, generation, [one.model_dump(mode="json") for one in course.fields],
            course.outliers.model_dump(mode="json"), course.task, pipeline.label_field, pipeline.label_type,
            classes_of(pipeline), course.seed, course.width, course.replay, gate.held_out if gate else 0.0]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
