"""Networks over images and texts go on from another version as dense ones do: frozen parts, a new head, adapters."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pytest

from examples.digits.data import images
from lepton.contracts import pipeline
from lepton.contracts.features import EVENT_ID
from lepton.contracts.modelling import transforms
from lepton.contracts.modelling.blocks import Parameters, Transfer
from lepton.contracts.pipeline import InvalidPipeline
from lepton_ai._library.starters import described
from services.trainer.core.dataset import LABEL
from services.trainer.core.export.session import Session
from services.trainer.core.failure import RunFailed
from services.trainer.core.handlers import Checkpoint
from services.trainer.core.learning import Given, Learned, learn
from services.trainer.core.plan import Plan, Rival
from services.trainer.core.preparing.rows import inputs_of
from services.trainer.core.weights import unpack
from tests.unit.trainer import samples
from tests.unit.trainer.families import shapes
from tests.unit.trainer.families.planned import example, plan_of, rows_of

OTHER = Rival(version=2, model="teacher", classes=())
TEACHERS: dict[str, Callable[[], tuple[Plan, pa.Table]]] = {
    "cnn": lambda: shapes.digits(240, epochs=3, channels=(4, 6)),
    "transformer": lambda: shapes.notes("transformer", 240, epochs=4, units=8, tokens=6)}
# A layer inside each network, and one with weights of its own beside it.
INSIDE = {"cnn": "branches.0.convolutions.layers.1.weight", "transformer": "branches.0.blocks.0.wide.weight"}
OUTSIDE = {"cnn": "branches.0.convolutions.layers.0.weight", "transformer": "branches.0.blocks.0.query.weight"}


class Case:
    def __init__(self, name: str) -> None:
        self.name = name
        self.plan, self.rows = TEACHERS[name]()
        self.teacher = learn(self.plan, Given(self.rows), [])
        self.before = weights_of(self.teacher)

    def pupil(self, rows: pa.Table | None = None, attached: list[object] | None = None, checkpoint: bytes | None = None,
              **transfer: Any) -> Learned:
        wanted = {"parent": OTHER, "transfer": Transfer.model_validate(transfer)}
        changes = {} if rows is None else {"label_type": "int"}
        return learn(self.plan.model_copy(update={**wanted, **changes}),
                     Given(self.rows.slice(0, 160) if rows is None else rows, parent=self.teacher.weights,
                           checkpoint=checkpoint), attached or [])


@pytest.fixture(scope="module", params=sorted(TEACHERS))
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


def weights_of(learned: Learned) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = unpack(learned.weights)[0]
    return found


def test_what_is_frozen_stays_bit_for_bit_with_its_running_figures_and_the_head_learns(case: Case) -> None:
    now = weights_of(case.pupil(freeze=["branches.*"]))
    for name, value in case.before.items():
        assert np.array_equal(now[name], value) == name.startswith("branches."), name


def test_one_layer_can_be_frozen_by_its_pattern(case: Case) -> None:
    now = weights_of(case.pupil(freeze=[INSIDE[case.name].replace("branches.0", "branches.?")]))
    assert np.array_equal(now[INSIDE[case.name]], case.before[INSIDE[case.name]])
    assert not np.array_equal(now[OUTSIDE[case.name]], case.before[OUTSIDE[case.name]])


def test_a_new_head_answers_other_classes_from_what_was_learnt(case: Case) -> None:
    rows = case.rows.slice(0, 160)
    rows = rows.set_column(rows.column_names.index(LABEL), LABEL, pa.array([20 + place % 3 for place in range(160)]))
    learned = case.pupil(rows, freeze=["branches.0"], head="replace")
    assert learned.target.classes == ("20", "21", "22")
    assert not [one for one in learned.carried if one.startswith("head.")]
    assert len(learned.carried) == len([name for name in case.before if not name.startswith("head.")])
    answers = Session(learned.exported.data).answers(inputs_of(case.plan.fields, rows))
    assert answers["probabilities"].shape == (160, 3)
    with pytest.raises(RunFailed, match=r"transfer\.head: that of version 2 of teacher"):
        case.pupil(rows, head="keep")


def test_adapters_add_no_more_than_their_rank_and_leave_a_plain_file(case: Case) -> None:
    learned = case.pupil(lora={"rank": 2, "layers": ["branches.*"]})
    now = weights_of(learned)
    assert set(now) == set(case.before)
    for name, value in case.before.items():
        apart = (now[name].astype(np.float64) - value).reshape(len(value), -1) if value.ndim else None
        adapted = name in (INSIDE[case.name], OUTSIDE[case.name])
        if adapted and apart is not None:
            assert 1 <= np.linalg.matrix_rank(apart, tol=1e-5) <= 2, name
        if name.startswith("head.") or name.endswith(("bias", "running_mean", "running_var")):
            assert np.array_equal(now[name], value), name
    files = [onnx.load_from_string(one.exported.data).graph for one in (learned, case.teacher)]
    shapes_of = [{one.name: list(one.dims) for one in file.initializer} for file in files]
    assert shapes_of[0] == shapes_of[1]
    assert learned.exported.operators == case.teacher.exported.operators


def test_a_new_head_learns_whole_beside_adapters_with_a_resume_and_without(case: Case) -> None:
    saved: list[bytes] = []
    whole = case.pupil(lora={"rank": 2}, head="replace", attached=[Checkpoint(saved.append)])
    resumed = case.pupil(lora={"rank": 2}, head="replace", checkpoint=saved[0])
    assert (whole.weights, whole.exported.data) == (resumed.weights, resumed.exported.data)
    assert not np.array_equal(weights_of(whole)["head.0.bias"], case.before["head.0.bias"])


def test_the_example_digits_goes_on_from_the_starter_with_its_head() -> None:
    """As docs/models/library.md has it: `lepton train digits --from starter-digits --head keep`."""
    made = described("digits")
    starter = pipeline.from_json(json.dumps(made.spec))
    rows = pa.table({EVENT_ID: [f"starter-{place}" for place in range(240)],
                     "pixels": made.rows.table.column("pixels").slice(0, 240).cast(pa.list_(pa.float32())),
                     LABEL: made.rows.table.column(made.label).slice(0, 240)})
    taught = learn(plan_of(starter, {"epochs": 3}), Given(rows), [])
    spec = example("digits")
    own = rows_of(spec, [{**one.event("run"), "digit": one.digit} for one in images()[:160]])
    plan = plan_of(spec, {"epochs": 1}, parent=Rival(version=1, model="starter-digits"), transfer=Transfer(head="keep"))
    learned = learn(plan, Given(own, parent=taught.weights), [])
    alone = learn(plan.model_copy(update={"parent": None, "transfer": None}), Given(own), [])
    assert set(learned.carried) == set(weights_of(taught))
    assert learned.metrics["log_loss"] < alone.metrics["log_loss"]


MADE: tuple[transforms.Transform, ...] = (
    transforms.QuantileBins(of=("amount",)), transforms.Pca(of=("amount", "visits"), components=1),
    transforms.Hashing(of=("country",), buckets=4), transforms.Tfidf(of=("note",)))
FEW = Parameters(hidden=(8,), epochs=2)


def mixed(made: tuple[transforms.Transform, ...], count: int = 200, **changes: Any) -> tuple[Plan, pa.Table]:
    return samples.mixed(count, family="mlp", transforms=made, parameters=FEW, **changes)


def test_columns_of_the_same_transforms_are_taken_over_as_they_were() -> None:
    plan, rows = mixed(MADE)
    parent = learn(plan, Given(rows), [])
    pupil, few = mixed(MADE, 80, parent=OTHER, transfer=Transfer(freeze=("layers.0.*",), head="replace"))
    pupil = pupil.model_copy(update={"fields": tuple(reversed(pupil.fields))})
    learned = learn(pupil, Given(few, parent=parent.weights), [])
    assert learned.preparation.parts == parent.preparation.parts
    assert learned.preparation.statistics != parent.preparation.statistics
    assert np.array_equal(weights_of(learned)["layers.0.weight"], weights_of(parent)["layers.0.weight"])


ENCODED = (transforms.TargetEncoding(of=("country",)),)


@pytest.mark.parametrize(("before", "now", "fields", "why"), [
    (MADE, MADE[:2], slice(None), "trained with other features.transforms"),
    ((), MADE, slice(None), "trained with other features.transforms"),
    (MADE[:1], MADE[:1], slice(0, 3), "its fields are others"),
    (ENCODED, ENCODED, slice(None), "target_encoding says what labels were")])
def test_columns_that_cannot_be_taken_over_are_named(before: Any, now: Any, fields: slice, why: str) -> None:
    plan, rows = mixed(before)
    parent = learn(plan, Given(rows), [])
    pupil, _ = mixed(now, parent=OTHER, transfer=Transfer())
    pupil = pupil.model_copy(update={"fields": pupil.fields[fields]})
    with pytest.raises(RunFailed, match=why) as failed:
        learn(pupil, Given(rows, parent=parent.weights), [])
    assert failed.value.failure_class == "parameter"
    assert "features.transforms" in failed.value.remedy
    # One that merely goes on by row count begins with nothing instead, and says so.
    merely = learn(pupil.model_copy(update={"reason": "rows"}), Given(rows, parent=parent.weights), [])
    assert "version 2 of teacher has other columns: learning began with nothing" in merely.warnings


def test_a_pipeline_may_declare_transforms_beside_transfer_but_for_those_of_labels() -> None:
    text = """
apiVersion: lepton/v1
kind: Pipeline
metadata: {name: shops}
events:
  fields: {shop: {type: category}}
  label: {field: sold, type: bool}
features: {transforms: [{kind: KIND, of: [shop]}]}
model: {family: mlp, transfer: {from: {model: teacher}}}
"""
    assert pipeline.parse(text.replace("KIND", "hashing")).features.transforms
    with pytest.raises(InvalidPipeline, match="target_encoding says what labels were"):
        pipeline.parse(text.replace("KIND", "target_encoding"))
