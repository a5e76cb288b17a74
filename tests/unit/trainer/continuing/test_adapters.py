"""Low-rank adapters: what learns and what stays, plain layers at the end, the same bytes, named failures."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pytest
import torch

from lepton.contracts.modelling.blocks import Lora, Parameters, Transfer
from services.trainer.core import loop
from services.trainer.core.continuing.adapters import Adapters
from services.trainer.core.export.session import Session
from services.trainer.core.failure import RunFailed
from services.trainer.core.handlers import Checkpoint
from services.trainer.core.learning import Given, Learned, learn, manifest
from services.trainer.core.networks import zoo
from services.trainer.core.plan import Plan, Rival
from services.trainer.core.preparing.layout import Layout, Span
from services.trainer.core.preparing.rows import inputs_of
from services.trainer.core.weights import unpack
from tests.unit.trainer import samples

PARAMETERS = Parameters(hidden=(16, 8), epochs=4, learning_rate=0.02)
EACH = [f"layers.{place}" for place in range(3)]


@dataclass(frozen=True, slots=True)
class Teacher:
    """One network, or several that answer with their mean."""

    parameters: Parameters
    learned: Learned

    @property
    def weights(self) -> bytes:
        return self.learned.weights

    def pupil(self, lora: dict[str, Any], **transfer: Any) -> tuple[Plan, pa.Table]:
        return samples.wine(family="mlp", parameters=self.parameters, parent=Rival(version=1, model="teacher"),
                            transfer=Transfer.model_validate({"lora": lora, **transfer}))


@pytest.fixture(scope="module", params=[1, 3], ids=["alone", "members"])
def teacher(request: pytest.FixtureRequest) -> Teacher:
    parameters = PARAMETERS.model_copy(update={"members": request.param})
    plan, rows = samples.wine(family="mlp", parameters=parameters)
    return Teacher(parameters, learn(plan, Given(rows.take(pa.array(range(0, 178, 2)))), []))


def weights_of(learned: Learned) -> dict[str, Any]:
    return unpack(learned.weights)[0]


def ranks(learned: Learned, teacher: Teacher) -> list[set[int]]:
    """Of what was added to each layer's weights: those of all members."""
    before, now = weights_of(teacher.learned), weights_of(learned)
    return [set(np.atleast_1d(np.linalg.matrix_rank(
        now[f"{name}.weight"].astype(np.float64) - before[f"{name}.weight"], tol=1e-4)).tolist()) for name in EACH]


def test_layers_change_by_their_rank_and_are_plain_again(teacher: Teacher) -> None:
    plan, rows = teacher.pupil({"rank": 2})
    learned = learn(plan, Given(rows, parent=teacher.weights), [])
    assert ranks(learned, teacher) == [{2}, {2}, {2}]
    before, now = weights_of(teacher.learned), weights_of(learned)
    assert set(now) == set(before)
    assert all(np.array_equal(now[f"{name}.bias"], before[f"{name}.bias"]) for name in EACH)
    # The file knows nothing of adapters: it has the operators and the tensors of the teacher's.
    shapes = [{one.name: list(one.dims) for one in onnx.load_from_string(file.exported.data).graph.initializer}
              for file in (learned, teacher.learned)]
    assert shapes[0] == shapes[1]
    assert learned.exported.operators == teacher.learned.exported.operators
    said = [Session(file.exported.data).answers(inputs_of(plan.fields, rows))["probabilities"]
            for file in (learned, teacher.learned)]
    assert np.abs(said[0] - said[1]).max() > 0.01
    lineage = manifest(plan, learned, "code").lineage
    assert (lineage.parent_model, lineage.parent_version) == ("teacher", 1)
    assert set(lineage.carried) == set(before)


def test_frozen_layers_get_no_adapter_and_a_new_head_learns_whole(teacher: Teacher) -> None:
    plan, rows = teacher.pupil({"rank": 1}, freeze=["layers.0.*"], head="replace")
    learned = learn(plan, Given(rows, parent=teacher.weights), [])
    assert ranks(learned, teacher)[:2] == [{0}, {1}]
    assert min(ranks(learned, teacher)[2]) > 1
    assert weights_of(learned)["layers.2.bias"].all()


def test_the_same_plan_and_rows_give_the_same_bytes_with_a_resume_and_without(teacher: Teacher) -> None:
    plan, rows = teacher.pupil({"rank": 2, "layers": ["layers.1"]})
    saved: list[bytes] = []
    whole = learn(plan, Given(rows, parent=teacher.weights), [Checkpoint(saved.append)])
    again = learn(plan, Given(rows, parent=teacher.weights), [])
    resumed = learn(plan, Given(rows, parent=teacher.weights, checkpoint=saved[1]), [])
    assert whole.weights == again.weights == resumed.weights
    assert whole.exported.data == again.exported.data
    assert ranks(whole, teacher) == [{0}, {2}, {0}]


def test_a_new_field_that_never_varies_gets_no_say_from_an_adapter(teacher: Teacher) -> None:
    plan, rows = teacher.pupil({"rank": 2})
    plan = plan.model_copy(update={"fields": (*plan.fields, plan.fields[0].model_copy(update={"name": "new"}))})
    rows = rows.append_column("new", pa.array(np.full(rows.num_rows, 3.0)))
    read = weights_of(learn(plan, Given(rows, parent=teacher.weights), []))["layers.0.weight"]
    assert not read[..., -1].any()
    assert not np.array_equal(read[..., :-1], weights_of(teacher.learned)["layers.0.weight"])


def test_the_adapters_of_each_member_learn_what_they_would_have_learnt_beside_it_alone() -> None:
    chance = np.random.default_rng(3)
    rows = loop.Rows(torch.from_numpy(chance.normal(size=(60, 5)).astype(np.float32)),
                     torch.from_numpy(chance.integers(0, 3, 60)))
    shared, lone = (Parameters(hidden=(6, 4), members=members, epochs=5, learning_rate=0.02) for members in (3, 1))
    layout = Layout((Span("rows", "number", 0, 5),))
    together, *alone = (zoo.build("mlp", "classification", layout, 3, one) for one in (shared, lone, lone, lone))
    before = together.arrays()
    wanted = Lora(rank=2, alpha=6.0)
    adapted = Adapters(together, wanted, "", 7)
    for member, network in enumerate(alone):
        network.load({name: value[member] for name, value in before.items()})
        beside = Adapters(network, wanted, "", 7)
        # They begin where those of the member do: two rows of each layer's first matrix.
        network.load(network.arrays() | {
            name: value[2 * member:2 * member + 2] for name, value in together.arrays().items() if ".lora_A." in name})
        loop.run(loop.Work(network, lone, rows, rows), [])
        beside.merge(rows.inputs)
    loop.run(loop.Work(together, shared, rows, rows), [])
    adapted.merge(rows.inputs)
    for name, value in together.arrays().items():
        assert np.array_equal(value, before[name]) == name.endswith("bias"), name
        for member, network in enumerate(alone):
            np.testing.assert_allclose(value[member], network.arrays()[name], atol=1e-5)


@pytest.mark.parametrize(("lora", "transfer", "why"), [
    ({"layers": ["attention.*"]}, {}, r"transfer.lora.layers: `attention.\*` matches nothing"),
    ({"layers": ["layers.2"]}, {"head": "replace"}, "nothing is left to stand an adapter beside"),
    ({"layers": ["layers.0"]}, {"freeze": ["layers.0.weight"]}, "nothing is left to stand an adapter beside")])
def test_adapters_that_stand_beside_nothing_are_named(
        teacher: Teacher, lora: dict[str, Any], transfer: dict[str, Any], why: str) -> None:
    plan, rows = teacher.pupil(lora, **transfer)
    with pytest.raises(RunFailed, match=why) as failed:
        learn(plan, Given(rows, parent=teacher.weights), [])
    assert failed.value.failure_class == "parameter"
    assert failed.value.remedy
