"""Low-rank adapters: what learns and what stays, plain layers at the end, the same bytes, named failures."""

from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pytest

from lepton.contracts.modelling.blocks import Parameters, Transfer
from services.trainer.core.failure import RunFailed
from services.trainer.core.handlers import Checkpoint
from services.trainer.core.learning import Given, Learned, learn
from services.trainer.core.plan import Plan, Rival
from services.trainer.core.weights import unpack
from tests.unit.trainer import samples

PARAMETERS = Parameters(hidden=(16, 8), epochs=4, learning_rate=0.02)


@pytest.fixture(scope="module")
def teacher() -> Learned:
    plan, rows = samples.wine(family="mlp", parameters=PARAMETERS)
    return learn(plan, Given(rows.take(pa.array(range(0, 178, 2)))), [])


def pupil(lora: dict[str, Any], **transfer: Any) -> tuple[Plan, pa.Table]:
    return samples.wine(family="mlp", parameters=PARAMETERS, parent=Rival(version=1, model="teacher"),
                        transfer=Transfer.model_validate({"lora": lora, **transfer}))


def weights_of(learned: Learned) -> dict[str, Any]:
    return unpack(learned.weights)[0]


def ranks(learned: Learned, teacher: Learned) -> list[int]:
    """Of what was added to each layer's weights."""
    return [int(np.linalg.matrix_rank(weights_of(learned)[f"layers.{place}.weight"].astype(np.float64)
                                      - weights_of(teacher)[f"layers.{place}.weight"], tol=1e-4)) for place in range(3)]


def test_layers_change_by_their_rank_and_are_plain_again(teacher: Learned) -> None:
    plan, rows = pupil({"rank": 2})
    learned = learn(plan, Given(rows, parent=teacher.weights), [])
    assert ranks(learned, teacher) == [2, 2, 2]
    assert set(weights_of(learned)) == set(weights_of(teacher))
    for place in range(3):
        assert np.array_equal(weights_of(learned)[f"layers.{place}.bias"], weights_of(teacher)[f"layers.{place}.bias"])
    # The file knows nothing of adapters: it has the operators and the tensors of the teacher's.
    shapes = [{one.name: list(one.dims) for one in onnx.load_from_string(file.exported.data).graph.initializer}
              for file in (learned, teacher)]
    assert shapes[0] == shapes[1]
    assert learned.exported.operators == teacher.exported.operators


def test_frozen_layers_get_no_adapter_and_a_new_head_learns_whole(teacher: Learned) -> None:
    plan, rows = pupil({"rank": 1}, freeze=["layers.0.*"], head="replace")
    learned = learn(plan, Given(rows, parent=teacher.weights), [])
    assert ranks(learned, teacher)[:2] == [0, 1]
    assert ranks(learned, teacher)[2] > 1
    assert not np.array_equal(weights_of(learned)["layers.2.bias"], np.zeros(3))


def test_the_same_plan_and_rows_give_the_same_bytes_with_a_resume_and_without(teacher: Learned) -> None:
    plan, rows = pupil({"rank": 2, "layers": ["layers.1"]})
    saved: list[bytes] = []
    whole = learn(plan, Given(rows, parent=teacher.weights), [Checkpoint(saved.append)])
    again = learn(plan, Given(rows, parent=teacher.weights), [])
    resumed = learn(plan, Given(rows, parent=teacher.weights, checkpoint=saved[1]), [])
    assert whole.weights == again.weights == resumed.weights
    assert whole.exported.data == again.exported.data
    assert ranks(whole, teacher) == [0, 2, 0]


@pytest.mark.parametrize(("lora", "transfer", "why"), [
    ({"layers": ["attention.*"]}, {}, r"transfer.lora.layers: `attention.\*` matches nothing"),
    ({"layers": ["layers.2"]}, {"head": "replace"}, "nothing is left to stand an adapter beside"),
    ({"layers": ["layers.0"]}, {"freeze": ["layers.0.weight"]}, "nothing is left to stand an adapter beside")])
def test_adapters_that_stand_beside_nothing_are_named(
        teacher: Learned, lora: dict[str, Any], transfer: dict[str, Any], why: str) -> None:
    plan, rows = pupil(lora, **transfer)
    with pytest.raises(RunFailed, match=why) as failed:
        learn(plan, Given(rows, parent=teacher.weights), [])
    assert failed.value.failure_class == "parameter"
    assert failed.value.remedy
