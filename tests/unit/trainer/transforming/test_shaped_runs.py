"""Whole runs with transforms: what they are worth, the same bytes every time, and parents of another shape."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lepton.contracts.modelling import transforms
from lepton.contracts.modelling.blocks import Parameters, Transfer
from services.trainer.core.failure import RunFailed
from services.trainer.core.handlers import Checkpoint
from services.trainer.core.learning import Given, learn, manifest
from services.trainer.core.plan import Plan, Rival
from tests.unit.trainer import samples
from tests.unit.trainer.world import SPEC, World, state_of

FEW = Parameters(epochs=6, learning_rate=0.05)
EVERY: tuple[transforms.Transform, ...] = (
    transforms.Scale(of=("amount",), method="robust"), transforms.QuantileBins(of=("amount", "visits")),
    transforms.Pca(of=("amount", "visits"), components=1), transforms.Hashing(of=("country",), buckets=4),
    transforms.TargetEncoding(of=("country",)), transforms.Tfidf(of=("note",)),
    transforms.Lda(of=("note",), topics=3, steps=5))


def shops(**changes: Any) -> tuple[Plan, pa.Table]:
    """A yes or no that follows which of 150 shops it was, eight rows each: too many values for a column each."""
    chance = np.random.default_rng(8)
    shop = chance.integers(0, 150, 1200)
    willing = chance.random(150)
    return (samples.plan({"shop": "category"}, parameters=Parameters(epochs=30, learning_rate=0.05), **changes),
            samples.rows({"shop": np.array([f"shop {one}" for one in shop], dtype=object)},
                         chance.random(1200) < np.where(willing > 0.5, 0.95, 0.05)[shop], {"shop": "category"}))


def waves(**changes: Any) -> tuple[Plan, pa.Table]:
    """A number that no straight line follows."""
    chance = np.random.default_rng(2)
    x = chance.uniform(-3, 3, 600)
    return (samples.plan({"x": "float"}, task="regression", label_type="float", family="linear_regression", **changes),
            samples.rows({"x": x}, np.sin(2 * x) + chance.normal(0, 0.1, 600), {"x": "float"}))


def test_means_of_the_label_learn_what_too_many_columns_cannot() -> None:
    plain = learn(*_given(shops()), [])
    encoded = learn(*_given(shops(transforms=(transforms.TargetEncoding(of=("shop",)),))), [])
    assert encoded.metrics["accuracy"] > plain.metrics["accuracy"] + 0.1


def test_bins_let_a_straight_line_follow_a_wave() -> None:
    plain = learn(*_given(waves()), [])
    binned = learn(*_given(waves(transforms=(transforms.QuantileBins(of=("x",), bins=20),))), [])
    assert plain.metrics["r2"] < 0.3 < 0.8 < binned.metrics["r2"]


@pytest.mark.parametrize("family", ["logistic_regression", "mlp"])
def test_the_same_plan_gives_the_same_bytes_resumed_or_not(family: str) -> None:
    plan, rows = samples.mixed(family=family, transforms=EVERY, parameters=FEW)
    again = Plan.from_json(plan.to_json())
    assert again == plan
    kept: list[bytes] = []
    whole = learn(plan, Given(rows), [Checkpoint(kept.append)])
    resumed = learn(again, Given(rows, checkpoint=kept[2]), [])
    assert (resumed.weights, resumed.exported.data) == (whole.weights, whole.exported.data)


def test_a_run_goes_on_from_a_parent_with_the_same_transforms() -> None:
    plan, rows = samples.mixed(transforms=EVERY, parameters=FEW)
    parent = learn(plan, Given(rows), [])
    went_on = learn(plan.model_copy(update={"parent": Rival(version=1)}), Given(rows, parent=parent.weights), [])
    assert went_on.carried and went_on.preparation == parent.preparation


def test_a_run_begins_anew_and_says_so_where_its_parent_had_others() -> None:
    plan, rows = samples.mixed(transforms=EVERY, parameters=FEW)
    parent = learn(plan.model_copy(update={"transforms": ()}), Given(rows), [])
    follower = plan.model_copy(update={"parent": Rival(version=1)})
    anew = learn(follower, Given(rows, parent=parent.weights), [])
    assert anew.weights == learn(plan, Given(rows), []).weights
    assert "version 1 of m has other columns: learning began with nothing" in anew.warnings
    assert manifest(follower, anew, "").lineage.parent_version == 0
    told = follower.model_copy(update={"transfer": Transfer()})
    with pytest.raises(RunFailed, match=r"features\.transforms") as raised:
        learn(told, Given(rows, parent=parent.weights), [])
    assert raised.value.failure_class == "parameter"


async def test_what_the_pipeline_says_reaches_the_published_file(world: World) -> None:
    wanted = "features: {transforms: [{kind: quantile_bins, of: [f0], bins: 4}]}\nmodel:"
    world.pipelines["tumours"] = state_of(SPEC.replace("model:", wanted, 1), version=2)
    await world.rows(0, 200)
    run = await world.train()
    assert run.progress.version == 1, run.progress
    (version,) = (await world.stores.models.state("tumours")).versions
    assert "ai.onnx::Greater" in version.manifest.operators


def _given(sample: tuple[Plan, pa.Table]) -> tuple[Plan, Given]:
    return sample[0], Given(sample[1])
