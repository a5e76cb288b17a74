"""Several networks as one: each learns as if it were alone, the file answers their mean, and what can be done with a
single one can be done with them."""

import numpy as np
import onnx
import pyarrow as pa
import pytest
import torch

from lepton.contracts.modelling.blocks import Explain, Export, Parameters
from services.trainer.core import loop
from services.trainer.core.learning import Given, Learned, learn
from services.trainer.core.networks import zoo
from services.trainer.core.networks.stack import Members, Stack
from services.trainer.core.plan import Rival
from services.trainer.core.preparing.layout import Layout, Span
from services.trainer.core.weights import unpack
from tests.unit.trainer import samples

THREE = Parameters(hidden=(6, 4), members=3, epochs=5, learning_rate=0.02)


@pytest.fixture(scope="module")
def taught() -> Learned:
    plan, rows = samples.wine(family="mlp", parameters=THREE, explain=Explain(rows=True, steps=64))
    return learn(plan, Given(rows), [])


def layout() -> Layout:
    return Layout((Span("rows", "number", 0, 5),))


def test_each_member_learns_what_it_would_have_learnt_alone() -> None:
    parameters = THREE.model_copy(update={"l2": 0.01, "batch_size": 16})
    together = zoo.build("mlp", "classification", layout(), 3, parameters)
    assert isinstance(together, Members)
    chance = np.random.default_rng(3)
    rows = loop.Rows(torch.from_numpy(chance.normal(size=(60, 5)).astype(np.float32)),
                     torch.from_numpy(chance.integers(0, 3, 60)))
    alone = [zoo.build("mlp", "classification", layout(), 3, parameters.model_copy(update={"members": 1}))
             for _ in range(3)]
    for number, one in enumerate(alone):
        one.load({name: value[number] for name, value in together.arrays().items()})
    first = [one.arrays()["layers.0.weight"] for one in alone]
    assert np.abs(first[0] - first[1]).max() > 0.1
    for network in (together, *alone):
        loop.run(loop.Work(network, parameters, rows, rows), [])
    for number, one in enumerate(alone):
        for name, value in one.arrays().items():
            np.testing.assert_allclose(together.arrays()[name][number], value, atol=1e-5)
    with torch.no_grad():
        mean = torch.stack([one.eval()(rows.inputs) for one in alone]).mean(dim=0)
        np.testing.assert_allclose(together.eval()(rows.inputs), mean, atol=1e-5)


def test_the_file_is_one_stack_and_explains_its_answers(taught: Learned) -> None:
    shapes = {tuple(one.dims) for one in onnx.load_from_string(taught.exported.data).graph.initializer}
    # Six units of each of three beside one another, four of each, and the mean of the members' scores.
    assert {(13, 18), (18, 12), (12, 3)} <= shapes or {(18, 13), (12, 18), (3, 12)} <= shapes
    assert taught.metrics["accuracy"] > 0.8
    assert taught.report["attribution"]["error"] < 0.1


def test_its_file_is_made_smaller_as_any_other() -> None:
    plan, rows = samples.wine(family="mlp", parameters=THREE.model_copy(update={"hidden": (24,)}), export=Export(
        prune=0.5, precision="dynamic_int8", max_cost=1.0))
    shrinking = learn(plan, Given(rows), []).shrinking
    assert shrinking is not None
    assert list(shrinking.methods) == ["prune", "dynamic_int8"]


def test_a_run_goes_on_from_all_of_them(taught: Learned) -> None:
    plan, rows = samples.wine(family="mlp", parameters=THREE.model_copy(update={"epochs": 1, "learning_rate": 1e-12}),
                              parent=Rival(version=1))
    again = learn(plan, Given(rows, parent=taught.weights), [])
    before, after = (unpack(one.weights)[0] for one in (taught, again))
    assert all(np.allclose(before[name], after[name], atol=1e-6) for name in before)


def test_columns_that_never_vary_have_no_say_in_any_member() -> None:
    plan, rows = samples.wine(family="mlp", parameters=THREE)
    place = rows.column_names.index(plan.fields[4].name)
    still = rows.set_column(place, rows.column_names[place], pa.array(np.ones(rows.num_rows)))
    weights = unpack(learn(plan, Given(still), []).weights)[0]["layers.0.weight"]
    assert not weights[:, :, 4].any()
    assert weights[:, :, 3].all()


def test_one_member_is_a_plain_stack() -> None:
    network = zoo.build("mlp", "regression", layout(), 1, Parameters(hidden=(4,)))
    assert type(network) is Stack
