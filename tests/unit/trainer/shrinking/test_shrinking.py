"""Smaller files of a real model: standard operators, finite answers, the same answer alone or in a batch, a cost."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from lepton.contracts.modelling.blocks import Export, Parameters
from services.predictor.core import graph
from services.trainer.core.export.graph import export
from services.trainer.core.export.session import Session, adversarial
from services.trainer.core.failure import RunFailed
from services.trainer.core.gate import too_dear
from services.trainer.core.learning import Given, Learned, learn
from services.trainer.core.preparing.rows import Inputs, inputs_of
from services.trainer.core.shrinking.shipping import Shipped, Trial, ship, shrunk
from tests.unit.trainer import samples

METHODS = [Export(precision="dynamic_int8"), Export(precision="static_int8"), Export(precision="fp16"),
           Export(prune=0.3), Export(prune=0.25, precision="static_int8")]
# Two answers that are the same but for the order of their sums.
ROUNDING = 1e-5

Case = tuple[Learned, Inputs]


@pytest.fixture(scope="module")
def wine() -> Case:
    plan, rows = samples.wine(family="mlp", parameters=Parameters(hidden=(64, 32), epochs=15))
    return learn(plan, Given(rows), []), inputs_of(plan.fields, rows)


def strange(case: Case) -> Inputs:
    return adversarial(case[0].preparation)


def probabilities(data: bytes, inputs: Inputs) -> np.ndarray:
    return Session(data).answers(inputs)["probabilities"]


def shipped(case: Case, wanted: Export, measure: Callable[[Session], dict[str, float]]) -> Shipped:
    return ship(case[0].exported, {"accuracy": 0.9}, wanted, Trial(case[1], strange(case), measure, "accuracy"))


@pytest.mark.parametrize("wanted", METHODS)
def test_a_smaller_file_is_smaller_plain_onnx_and_answers_alike(wine: Case, wanted: Export) -> None:
    learned, rows = wine
    small = shrunk(learned.exported, wanted, rows)
    onnx.checker.check_model(onnx.load_from_string(small.data), full_check=True)
    graph.check(small.data, small.operators)
    assert len(small.data) < 0.85 * len(learned.exported.data)
    assert (small.inputs, small.outputs) == (learned.exported.inputs, learned.exported.outputs)
    same = probabilities(small.data, rows).argmax(axis=1) == probabilities(learned.exported.data, rows).argmax(axis=1)
    assert same.mean() > 0.95
    assert np.isfinite(probabilities(small.data, strange(wine))).all()


@pytest.mark.parametrize("wanted", METHODS)
def test_the_same_model_and_rows_give_the_same_bytes(wine: Case, wanted: Export) -> None:
    learned, rows = wine
    assert shrunk(learned.exported, wanted, rows).data == shrunk(learned.exported, wanted, rows).data


@pytest.mark.parametrize("precision", ["dynamic_int8", "static_int8"])
def test_a_row_is_answered_the_same_alone_and_beside_an_extreme_one(wine: Case, precision: str) -> None:
    learned, rows = wine
    small = shrunk(learned.exported, Export.model_validate({"precision": precision}), rows).data
    extreme = Inputs({name: np.append(values[:1], 1e300) for name, values in rows.values.items()},
                     np.zeros((2, len(rows.values)), dtype=bool))
    alone = probabilities(small, rows.take(np.array([0])))
    assert np.abs(probabilities(small, extreme)[0] - alone[0]).max() < ROUNDING


def test_units_that_are_left_out_are_gone_from_every_layer(wine: Case) -> None:
    learned, rows = wine
    small = onnx.load_from_string(shrunk(learned.exported, Export(prune=0.5), rows).data)
    shapes = {one.name: list(one.dims) for one in small.graph.initializer}
    assert shapes["layer_0:weight"] == [32, 13]
    assert shapes["layer_1:weight"] == [16, 32]
    assert shapes["layer_2:weight"] == [3, 16]


def test_units_that_never_vary_go_at_no_cost(wine: Case) -> None:
    learned, rows = wine
    chance = np.random.default_rng(3)
    weight = chance.normal(size=(8, len(rows.values)))
    weight[:4] = 0.0  # what these say is their bias
    network = samples.Layers([(weight, np.full(8, 0.5)), (chance.normal(size=(3, 8)), np.zeros(3))])
    full = export(learned.preparation, network, learned.target)
    small = shrunk(full, Export(prune=0.5), rows)
    assert np.abs(probabilities(small.data, rows) - probabilities(full.data, rows)).max() < ROUNDING


def test_a_cost_is_stated_and_judged(wine: Case) -> None:
    cheap = shipped(wine, Export(precision="static_int8", max_cost=0.05), lambda _: {"accuracy": 0.88})
    assert cheap.shrinking is not None
    assert cheap.shrinking.cost == pytest.approx(0.02)
    assert list(cheap.shrinking.methods) == ["static_int8"]
    assert cheap.shrinking.calibration_rows == wine[1].rows
    assert too_dear(cheap.shrinking) == ()
    dear = shipped(wine, Export(precision="fp16", max_cost=0.01), lambda _: {"accuracy": 0.7})
    assert dear.shrinking is not None
    assert too_dear(dear.shrinking) == ("fp16 costs 0.2 of accuracy, more than 0.01",)


def test_a_file_that_costs_too_much_can_give_way_to_the_full_one(wine: Case) -> None:
    kept = shipped(wine, Export(precision="fp16", otherwise="full"), lambda _: {"accuracy": 0.7})
    assert kept.exported is wine[0].exported
    assert kept.shrinking is not None
    assert kept.shrinking.full_served
    assert too_dear(kept.shrinking) == ()


def test_what_has_no_hidden_units_cannot_lose_any() -> None:
    plan, rows = samples.wine(parameters=Parameters(epochs=1))
    learned = learn(plan, Given(rows), [])
    with pytest.raises(RunFailed, match="no hidden units") as failed:
        shrunk(learned.exported, Export(prune=0.5), inputs_of(plan.fields, rows))
    assert failed.value.failure_class == "parameter"
