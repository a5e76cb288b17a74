"""Dropout changes what every family that takes it learns."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from examples.allocation.data import decisions
from lepton.contracts.modelling.blocks import Parameters
from lepton.contracts.modelling.families import FAMILIES
from lepton.contracts.pipeline import parse
from lepton.contracts.pipeline_blocks import Gate
from services.trainer.core.learning import Given, learn
from services.trainer.core.plan import Plan
from services.trainer.core.weights import unpack
from tests.unit.trainer import samples
from tests.unit.trainer.families import shapes
from tests.unit.trainer.families.planned import example, plan_of, rows_of
from tests.unit.trainer.families.readers import ratings

Case = tuple[Plan, pa.Table]


def wine() -> Case:
    return samples.wine(family="mlp", parameters=Parameters(hidden=(8,)))


def several() -> Case:
    return samples.wine(family="mlp", parameters=Parameters(hidden=(8,), members=2))


def tumours() -> Case:
    return samples.breast_cancer(task="anomaly", family="autoencoder", parameters=Parameters(hidden=(8,), code=2),
                                 gate=Gate(metric="separation"))


def books() -> Case:
    spec = parse(Path(__file__).with_name("readers.yaml").read_text("utf-8"))
    return plan_of(spec), rows_of(spec, ratings(400))


def weeks() -> Case:
    spec = example("allocation")
    return plan_of(spec, {"hidden": (8,)}, family="dqn"), rows_of(spec, decisions(20))


def walks(family: str) -> Callable[[], Case]:
    return lambda: shapes.walks(family, 60, units=4)


CASES: list[tuple[str, Callable[[], Case]]] = [
    ("mlp", wine), ("mlp", several), ("cnn", lambda: shapes.digits(100)), ("rnn", walks("rnn")),
    ("lstm", walks("lstm")), ("gru", walks("gru")), ("transformer", walks("transformer")), ("autoencoder", tumours),
    ("recommender", books), ("dqn", weeks)]


def test_every_family_that_takes_it_is_looked_at_here() -> None:
    takers = {name for name, rules in FAMILIES.items() if "dropout" in rules.parameters}
    assert {family for family, _ in CASES} == takers


@pytest.mark.parametrize(("family", "case"), CASES)
def test_weights_differ_with_it_and_without(family: str, case: Callable[[], Case]) -> None:
    plan, rows = case()
    assert plan.family == family

    def learnt(dropout: float) -> np.ndarray:
        parameters = plan.parameters.model_copy(update={"epochs": 1, "patience": 0, "dropout": dropout})
        arrays, _ = unpack(learn(plan.model_copy(update={"parameters": parameters}), Given(rows), []).weights)
        return np.concatenate([arrays[name].ravel() for name in sorted(arrays)])

    with_it, without = learnt(0.5), learnt(0.0)
    assert with_it.shape == without.shape
    assert np.abs(with_it - without).max() > 1e-3
