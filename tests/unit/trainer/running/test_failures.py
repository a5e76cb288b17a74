"""What can go wrong with a run, each by class and name, with a remedy; whoever answered before goes on answering."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lepton.contracts import features, pipeline
from lepton.contracts.modelling.blocks import Parameters
from lepton.contracts.pb import training_pb2
from lepton.contracts.pb.models_pb2 import VERSION_STATUS_READY
from lepton.contracts.pb.training_pb2 import FailureClass
from lepton.store.artifacts import sha256_hex
from services.trainer import worker
from services.trainer.core.dataset import LABEL
from services.trainer.core.export.session import Session
from services.trainer.core.plan import Plan
from services.trainer.core.preparing.rows import inputs_of
from tests.unit.trainer import samples
from tests.unit.trainer.folders import furnish
from tests.unit.trainer.world import SPEC, World, rows_of, state_of

ROOT = Path(__file__).parents[4]
MODULE = "tests.unit.trainer.running.failing"
Case = Callable[[], tuple[Plan, pa.Table]]
# Steps so long that the weights grow with each of them.
EXPLODING: dict[str, Any] = {"hidden": [64] * 6, "optimizer": "sgd", "learning_rate": 3.0, "epochs": 60,
                             "batch_size": 200}


def column(rows: pa.Table, name: str, value: object) -> pa.Table:
    return rows.set_column(rows.column_names.index(name), name, pa.array([value] * rows.num_rows))


def all_alike() -> tuple[Plan, pa.Table]:
    plan, rows = samples.wine()
    for field in plan.fields:
        rows = column(rows, field.name, 4.25)
    return plan, rows


def no_number() -> tuple[Plan, pa.Table]:
    plan, rows = samples.diabetes(family="torch_module", parameters=Parameters(
        module=f"{MODULE}:Rootless", epochs=3))
    return plan, rows


def exploding() -> tuple[Plan, pa.Table]:
    return samples.diabetes(family="mlp", parameters=Parameters.model_validate(EXPLODING))


def one_class() -> tuple[Plan, pa.Table]:
    plan, rows = samples.wine()
    return plan, column(rows, LABEL, "barolo")


def empty() -> tuple[Plan, pa.Table]:
    plan, rows = samples.wine()
    return plan, rows.slice(0, 0)


def incomplete() -> tuple[Plan, pa.Table]:
    """Rows there are, but the Pipeline drops each of them."""
    plan, rows = samples.wine()
    first, *rest = plan.fields
    dropping = first.model_copy(update={"missing": first.missing.model_validate("drop")})
    nothing = rows.set_column(rows.column_names.index(first.name), first.name, pa.nulls(rows.num_rows, pa.float64()))
    return plan.model_copy(update={"fields": (dropping, *rest)}), nothing


@pytest.mark.parametrize(("case", "failure_class", "name", "remedy"), [
    (empty, "data", "no_rows", "send events"), (incomplete, "data", "no_rows", "send events"),
    (one_class, "data", "one_class", "two classes"), (all_alike, "data", "constant_fields", "differ"),
    (no_number, "parameter", "nan_loss", "learning_rate"),
    (exploding, "parameter", "exploding_gradients", "clip_norm")])
def test_it_leaves_a_failure_by_class_and_name_with_the_remedy(tmp_path: Path, case: Case, failure_class: str,
                                                               name: str, remedy: str) -> None:
    furnish(tmp_path, *case())
    assert worker.train(tmp_path) == 0
    failure = json.loads((tmp_path / worker.FAILURE).read_text())
    assert (failure["class"], failure["name"]) == (failure_class, name), failure
    assert remedy in failure["remedy"]
    assert not (tmp_path / worker.RESULT).exists()
    assert not (tmp_path / worker.MODEL).exists()


def test_more_memory_than_there_is_fails_in_words_and_not_by_a_dead_process(tmp_path: Path) -> None:
    plan, rows = samples.wine(family="mlp", memory_mb=1000, parameters=Parameters(hidden=(4096,) * 6, epochs=1))
    furnish(tmp_path, plan, rows)
    ended = subprocess.run([sys.executable, "-m", "services.trainer.worker", "train", str(tmp_path), str(os.getpid())],
                           cwd=ROOT, capture_output=True, timeout=200)
    assert ended.returncode == 0, ended.stderr
    failure = json.loads((tmp_path / worker.FAILURE).read_text())
    assert (failure["class"], failure["name"]) == ("resource", "out_of_memory"), failure
    assert "LEPTON_TRAINER_RUN_MEMORY_MB" in failure["remedy"]


def test_a_category_that_was_never_seen_is_answered_as_any_unknown_one(tmp_path: Path) -> None:
    plan, rows = samples.mixed(parameters=Parameters(epochs=2))
    furnish(tmp_path, plan, rows)
    worker.train(tmp_path)
    strange, other = (Session((tmp_path / worker.MODEL).read_bytes()).answers(inputs_of(
        plan.fields, column(rows.slice(0, 20), "country", name)))["probabilities"] for name in ("atlantis", "utopia"))
    assert np.isfinite(strange).all()
    assert np.array_equal(strange, other)


def of_module(name: str) -> dict[str, Any]:
    return {"family": "torch_module", "parameters_json": json.dumps({"module": f"{MODULE}:{name}", "epochs": 2})}


async def stored(world: World, name: str, *, label: bool | None = None, fields: float | None = None) -> None:
    """Two hundred rows of another pipeline of the same form, with one label or one value in all of them."""
    spec = pipeline.parse(SPEC.replace("name: tumours", f"name: {name}"))
    world.pipelines[name] = state_of(SPEC.replace("name: tumours", f"name: {name}"))
    table, outcomes = rows_of(spec, 0, 200)
    for one in outcomes:
        one.flag = one.flag if label is None else label
    for field in spec.fields if fields is not None else ():
        table = column(table, field, fields)
    for stream, data in (("features", features.encode_table(table)),
                         ("outcomes", features.encode_table(features.outcome_table(spec, outcomes)))):
        await world.stores.segments.append(stream, spec.name, 1, 0, 0, 200, 200, data, sha256_hex(data))


async def test_the_champion_goes_on_answering_whatever_a_run_fails_of(world: World) -> None:
    await world.rows(0, 200)
    await world.train("first")
    kept = (await world.stores.models.state("tumours")).SerializeToString(deterministic=True)
    await stored(world, "single", label=True)
    await stored(world, "alike", fields=0.5)
    world.pipelines["nobody"] = state_of(SPEC.replace("name: tumours", "name: nobody"))
    data, parameter = FailureClass.FAILURE_CLASS_DATA, FailureClass.FAILURE_CLASS_PARAMETER
    resource = FailureClass.FAILURE_CLASS_RESOURCE
    world.bounds = replace(world.bounds, modules=(MODULE,))
    for changes, failure_class, name in (
            ({"data_pipeline": "nobody"}, data, "no_rows"), ({"data_pipeline": "single"}, data, "one_class"),
            ({"data_pipeline": "alike"}, data, "constant_fields"),
            ({"family": "mlp", "parameters_json": json.dumps(EXPLODING)}, parameter, "exploding_gradients"),
            (of_module("Rootless"), parameter, "nan_loss"), (of_module("Insatiable"), resource, "out_of_memory")):
        run = await world.train(name, **changes)
        assert run.progress.state == training_pb2.RUN_STATE_FAILED
        assert (run.progress.failure.failure_class, run.progress.failure.name) == (failure_class, name)
        assert run.progress.failure.remedy
    state = await world.stores.models.state("tumours")
    assert state.SerializeToString(deterministic=True) == kept
    assert (state.champion, state.versions[0].status) == (1, VERSION_STATUS_READY)
    files = {str(one["_id"]) for one in await world.database.collection("fs.files").find({})}
    segments = {str(one["digest"]) for one in await world.database.collection("segments").find({})}
    manifest = state.versions[0].manifest
    assert files - segments == {manifest.sha256, manifest.lineage.weights_sha256, manifest.card_sha256,
                                state.versions[0].model_signing_sha256}
    assert await world.folders.names() == []
