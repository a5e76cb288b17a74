"""Files of what looks along images, series and texts, recommends or decides: smaller, sound, at a stated cost."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pytest
import torch

from examples.allocation.data import decisions
from lepton.contracts import pipeline
from lepton.contracts.modelling.blocks import Export
from services.predictor.core import graph
from services.trainer.core.export.graph import export
from services.trainer.core.export.session import Session, adversarial
from services.trainer.core.failure import RunFailed
from services.trainer.core.gate import too_dear
from services.trainer.core.learning import Given, Learned, learn
from services.trainer.core.networks import zoo
from services.trainer.core.plan import Plan
from services.trainer.core.preparing.rows import Inputs, inputs_of
from services.trainer.core.shrinking.shipping import shrunk
from tests.unit.trainer.families import shapes
from tests.unit.trainer.families.planned import example, plan_of, rows_of
from tests.unit.trainer.families.readers import ratings

Rows = tuple[Plan, pa.Table]


def books() -> Rows:
    spec = pipeline.parse(Path(shapes.__file__).with_name("readers.yaml").read_text("utf-8"))
    return plan_of(spec, {"epochs": 3, "hidden": (16, 8)}), rows_of(spec, ratings(1500))


FAMILIES: dict[str, Callable[[], Rows]] = {
    "cnn, images": lambda: shapes.digits(400, epochs=4, channels=(12, 24), hidden=(16,)),
    "cnn, series": lambda: shapes.walks("cnn", epochs=3, channels=(16, 32)),
    "rnn, series": lambda: shapes.walks("rnn", epochs=3, units=48),
    "lstm, series": lambda: shapes.walks("lstm", epochs=3, units=24, depth=2),
    "gru, series": lambda: shapes.walks("gru", epochs=3, units=32),
    "gru, texts": lambda: shapes.notes("gru", epochs=3, units=24, tokens=8),
    "transformer, series": lambda: shapes.walks("transformer", epochs=3, units=48),
    "transformer, texts": lambda: shapes.notes("transformer", epochs=3, units=48, tokens=8),
    "recommender": books}
INTEGERS = ("dynamic_int8", "static_int8")
# How far from the full file's a smaller one's probabilities, or scores where they spread by one, may be: the bounds
# that docs/models/smaller-files.md states.
BOUNDS = {"dynamic_int8": 0.1, "static_int8": 0.1, "fp16": 0.005}
# Two answers that are the same but for the order of their sums.
ROUNDING = 1e-5


@dataclass
class Case:
    name: str
    plan: Plan
    table: pa.Table
    learned: Learned
    inputs: Inputs

    def small(self, **wanted: object) -> bytes:
        return shrunk(self.learned.exported, Export.model_validate(wanted), self.inputs).data


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def case(request: pytest.FixtureRequest) -> Case:
    plan, table = FAMILIES[request.param]()
    return Case(request.param, plan, table, learn(plan, Given(table), []), inputs_of(plan.fields, table))


def numbers(data: bytes, inputs: Inputs) -> np.ndarray:
    answers = Session(data).answers(inputs)
    return answers["probabilities" if "probabilities" in answers else "scores"]


@pytest.mark.parametrize("precision", sorted(BOUNDS))
def test_it_is_smaller_plain_onnx_and_answers_within_its_bound(case: Case, precision: str) -> None:
    full = case.learned.exported
    small = shrunk(full, Export.model_validate({"precision": precision}), case.inputs)
    onnx.checker.check_model(onnx.load_from_string(small.data), full_check=True)
    graph.check(small.data, small.operators)
    assert len(small.data) < 0.9 * len(full.data)
    told, wide = numbers(small.data, case.inputs), numbers(full.data, case.inputs)
    assert np.abs(told - wide).max() < BOUNDS[precision] * max(1.0, float(wide.std()))
    assert np.isfinite(numbers(small.data, adversarial(case.learned.preparation))).all()


@pytest.mark.parametrize("precision", INTEGERS)
def test_its_own_weights_are_in_eight_bits_and_not_only_those_of_its_head(case: Case, precision: str) -> None:
    file = onnx.load_from_string(case.small(precision=precision))
    left = [one for one in file.graph.initializer if one.data_type == onnx.TensorProto.FLOAT]
    of_network = [one for one in left if len(one.dims) > 1 and min(one.dims) > 1 and np.prod(one.dims) >= 256]
    assert [one.name for one in of_network] == []


@pytest.mark.parametrize("precision", INTEGERS)
def test_a_row_is_answered_the_same_alone_and_beside_others(case: Case, precision: str) -> None:
    small = case.small(precision=precision)
    alone = numbers(small, case.inputs.take(np.array([1])))
    assert np.abs(numbers(small, case.inputs)[1] - alone[0]).max() < ROUNDING


def test_its_cost_is_stated_and_gated(case: Case) -> None:
    wanted = Export(precision="static_int8", max_cost=0.1)
    told = learn(case.plan.model_copy(update={"export": wanted}), Given(case.table), []).shrinking
    assert told is not None
    assert told.metric == case.plan.gate.metric
    assert told.cost == pytest.approx(told.full_metrics[told.metric] - told.shrunk_metrics[told.metric])
    assert too_dear(told) == ()
    told.max_cost = told.cost - 0.01
    assert too_dear(told)[0].startswith("static_int8 costs")


def test_units_are_left_out_where_there_are_hidden_ones(case: Case) -> None:
    """Channels of a convolution, and the wide layer of a transformer's block; states of a recurrence all go on."""
    if case.name.startswith(("rnn", "lstm", "gru")):
        with pytest.raises(RunFailed, match="no hidden units") as failed:
            case.small(prune=0.3)
        assert "model.parameters.hidden" in failed.value.remedy
        return
    small = case.small(prune=0.3)
    assert len(small) < len(case.learned.exported.data)
    assert np.isfinite(numbers(small, adversarial(case.learned.preparation))).all()
    assert np.abs(numbers(small, case.inputs) - numbers(case.learned.exported.data, case.inputs)).mean() < 0.05


@pytest.mark.parametrize("make", [lambda: shapes.digits(100, epochs=1, channels=(8, 6), kernel=1, hidden=(5,)),
                                  lambda: shapes.walks("cnn", 100, epochs=1, channels=(8, 6), kernel=1)])
def test_channels_that_never_vary_go_at_no_cost(make: Callable[[], Rows]) -> None:
    """With a kernel of one place nothing is different at the rim."""
    plan, table = make()
    learned = learn(plan, Given(table), [])
    network = zoo.build(plan.family, plan.task, learned.preparation.layout, learned.target.outputs, plan.parameters)
    with torch.no_grad():
        for name, value in network.named_parameters():
            if "normals.0" in name:
                value[:4] = 0.0 if name.endswith("weight") else 0.7
    full = export(learned.preparation, network.eval(), learned.target)
    inputs = inputs_of(plan.fields, table)
    small = shrunk(full, Export(prune=0.5), inputs)
    shape = {tuple(one.dims)[:2] for one in onnx.load_from_string(small.data).graph.initializer if len(one.dims) > 2}
    assert (6 if plan.parameters.image is None else 3, 4) in shape
    if plan.parameters.image is None:  # the last convolution is read by no layer alone, and keeps its channels
        assert np.abs(numbers(small.data, inputs) - numbers(full.data, inputs)).max() < ROUNDING


def test_a_table_of_returns_is_stored_in_eight_bits() -> None:
    spec = example("allocation")
    plan, table = plan_of(spec, {"epochs": 1, "bins": 32}), rows_of(spec, decisions(60))
    learned = learn(plan, Given(table), [])
    inputs = inputs_of(plan.fields, table)
    small = shrunk(learned.exported, Export(precision="dynamic_int8"), inputs)
    assert len(small.data) < len(learned.exported.data)
    full = Session(learned.exported.data).answers(inputs)["values"]
    assert np.abs(Session(small.data).answers(inputs)["values"] - full).max() < 0.01 * np.abs(full).max()
