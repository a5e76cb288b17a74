"""Images and series from stored rows to the registry: planned, learnt, published, and continued by a later run."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn import datasets

from lepton.contracts import features, pipeline
from lepton.contracts.pb import training_pb2
from lepton.contracts.pb.models_pb2 import ModelVersion
from lepton.contracts.pb.outcomes_pb2 import Outcome
from lepton.store.artifacts import sha256_hex
from services.trainer.core.export.session import Session
from services.trainer.core.preparing.rows import inputs_of
from tests.unit.trainer.families import shapes
from tests.unit.trainer.world import START, World, state_of

SPEC = """
apiVersion: lepton/v1
kind: Pipeline
metadata: {name: digits}
events:
  partitions: 2
  fields:
    pixels: {type: vector, dims: 64}
    steps: {type: sequence, max_length: 12}
    note: {type: text}
  label: {field: digit, type: int, task: classification}
clean: {missing: {pixels: drop}}
model:
  family: cnn
  parameters: {epochs: 6, image: [8, 8], channels: [8, 16], tokens: 6, units: 4}
gate: {metric: accuracy, at_least: 0.5, beat_champion_by: -0.2}
"""
PLAIN = """
apiVersion: lepton/v1
kind: Pipeline
metadata: {name: digits}
events:
  partitions: 2
  fields: {size: {type: float}}
  label: {field: digit, type: int, task: classification}
"""
IMAGES = datasets.load_digits()


@pytest.fixture
def here(tmp_path: Path) -> World:
    return World(tmp_path, pipelines={"digits": state_of(SPEC)})


async def store(world: World, first: int, count: int) -> None:
    """Images with a strip of themselves as a series and a word about them; every tenth lacks one or both."""
    spec = pipeline.parse(SPEC)
    numbers = range(first, first + count)
    rows: list[dict[str, Any]] = []
    outcomes: list[Outcome] = []
    for number in numbers:
        image = IMAGES.data[number].tolist()
        rows.append({
            features.EVENT_ID: f"d-{number}", features.ENTITY: f"d-{number}", features.SOURCE: "test",
            features.OCCURRED_AT: START + timedelta(seconds=number), features.SOURCE_OFFSET: number,
            features.OUTLIERS: [], "pixels": None if number % 50 == 3 else image,
            "steps": None if number % 10 == 4 else image[24:24 + number % 9],
            "note": None if number % 10 == 5 else f"Seen on day {number}"})
        outcome = Outcome(event_id=f"d-{number}", entity=f"d-{number}", number=float(IMAGES.target[number]))
        outcome.label_time.FromDatetime(START + timedelta(seconds=number))
        outcomes.append(outcome)
    table = pa.Table.from_pylist(rows, schema=features.features_schema(spec))
    for stream, data in (("features", features.encode_table(table)),
                         ("outcomes", features.encode_table(features.outcome_table(spec, outcomes)))):
        start = await world.stores.segments.next_offset(stream, "digits", 1, 0)
        await world.stores.segments.append(stream, "digits", 1, 0, start, start + count, count, data, sha256_hex(data))


async def version(world: World, number: int) -> ModelVersion:
    state = await world.stores.models.state("digits")
    return next(one for one in state.versions if one.version == number)


async def test_stored_lists_become_a_published_model_that_a_later_run_continues(here: World) -> None:
    await store(here, 0, 250)
    run = await here.train("c1", model="digits")
    assert run.progress.state == training_pb2.RUN_STATE_SUCCEEDED, run.progress.failure
    told = (await version(here, 1)).manifest
    assert told.metrics["accuracy"] >= 0.5
    # An image that is not there is no example; a series or a note that is not there is one like others.
    assert told.lineage.train_rows + told.lineage.held_out_rows == 245
    assert [(one.name, one.datatype, list(one.shape), one.padded) for one in told.inputs[:3]] == [
        ("pixels", "FP32", [-1, 64], False), ("steps", "FP64", [-1, 12], True), ("note", "BYTES", [-1], False)]
    await store(here, 250, 150)
    run = await here.train("c2", model="digits", kind=training_pb2.TRAINING_KIND_FINE_TUNE)
    assert run.progress.state == training_pb2.RUN_STATE_SUCCEEDED, run.progress.failure
    later = (await version(here, 2)).manifest
    assert later.lineage.parent_version == 1
    assert later.metrics["accuracy"] >= 0.7
    assert later.champion_metrics["accuracy"] > 0.5
    running = Session(await here.stores.artifacts.get(later.sha256))
    rows = shapes.rows([True] * 50, {shapes.PIXELS: IMAGES.data[1700:1750].tolist(),
                                     shapes.STEPS: [image[24:30].tolist() for image in IMAGES.data[1700:1750]],
                                     shapes.NOTE: ["never seen before"] * 50})
    said = running.answers(inputs_of((shapes.PIXELS, shapes.STEPS, shapes.NOTE), rows))["label"]
    assert (np.asarray(said) == IMAGES.target[1700:1750]).mean() >= 0.6


async def test_a_model_of_shorter_series_is_not_continued_with_longer_ones(here: World) -> None:
    await store(here, 0, 200)
    here.pipelines["digits"] = state_of(SPEC.replace("at_least: 0.5", "at_least: 0").replace("epochs: 6", "epochs: 1"))
    assert (await here.train("c1", model="digits")).progress.state == training_pb2.RUN_STATE_SUCCEEDED
    here.pipelines["digits"] = state_of(SPEC.replace("max_length: 12", "max_length: 14"), version=2)
    run = await here.train("c2", model="digits", kind=training_pb2.TRAINING_KIND_FINE_TUNE)
    assert run.progress.failure.failure_class == training_pb2.FAILURE_CLASS_PARAMETER
    assert "takes other fields" in run.progress.failure.message
    assert run.progress.failure.remedy


async def test_a_command_may_name_a_family_that_has_nothing_to_look_along_and_is_told_so(here: World) -> None:
    here.pipelines["digits"] = state_of(PLAIN)
    await store(here, 0, 40)
    run = await here.train("c1", model="digits", family="lstm")
    assert run.progress.state == training_pb2.RUN_STATE_FAILED
    assert run.progress.failure.failure_class == training_pb2.FAILURE_CLASS_PARAMETER
    assert "nothing to look along" in run.progress.failure.message
