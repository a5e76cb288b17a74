"""Runs that go on from another model's weights: fields by name, frozen layers, a new head, and named failures."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lepton.contracts.modelling.blocks import Parameters, Transfer
from lepton.contracts.pipeline_blocks import FieldType
from services.trainer.core.dataset import LABEL
from services.trainer.core.export.session import Session
from services.trainer.core.failure import RunFailed
from services.trainer.core.handlers import Checkpoint
from services.trainer.core.learning import Given, Learned, learn, manifest
from services.trainer.core.plan import Plan, Rival
from services.trainer.core.preparing.rows import inputs_of
from services.trainer.core.weights import unpack
from tests.unit.trainer import samples

PARAMETERS = Parameters(hidden=(16, 8), epochs=6)
OTHER = Rival(version=2, model="teacher", classes=())


@pytest.fixture(scope="module")
def teacher() -> Learned:
    plan, rows = samples.mixed(family="mlp", parameters=PARAMETERS)
    return learn(plan, Given(rows), [])


def pupil(fields: tuple[str, ...] = ("country", "amount", "age", "member"), **transfer: Any) -> tuple[Plan, pa.Table]:
    """Some of the teacher's fields in another order, one that is new, and a label of its own."""
    _, rows = samples.mixed(count=120)
    chance = np.random.default_rng(9)
    kinds: Mapping[str, FieldType] = {"country": "category", "amount": "float", "age": "int", "member": "bool",
                                      "note": "text", "visits": "int"}
    columns = {**{name: rows.column(name) for name in rows.column_names if name in kinds},
               "age": chance.integers(18, 90, rows.num_rows)}
    table = samples.rows({name: columns[name] for name in fields}, rows.column(LABEL).to_pylist(),
                         {name: kinds[name] for name in fields})
    return samples.plan({name: kinds[name] for name in fields}, label_type="category", family="mlp",
                        parameters=PARAMETERS, parent=OTHER, transfer=Transfer.model_validate(transfer)), table


def weights_of(learned: Learned) -> dict[str, Any]:
    return unpack(learned.weights)[0]


def begun(plan: Plan, table: pa.Table, parent: Learned) -> Learned:
    """Ends where it began: the rate is too small to move anything."""
    still = plan.model_copy(update={"parameters": PARAMETERS.model_copy(update={"learning_rate": 1e-12, "epochs": 1})})
    return learn(still, Given(table, parent=parent.weights), [])


def columns(learned: Learned, field: str) -> Any:
    span = next(one for one in learned.preparation.layout.spans if one.field == field)
    return weights_of(learned)["layers.0.weight"][:, span.start:span.start + span.width]


def test_fields_are_taken_over_by_name_with_their_statistics(teacher: Learned) -> None:
    learned = begun(*pupil(), teacher)
    for field in ("country", "amount", "member"):
        assert columns(learned, field) == pytest.approx(columns(teacher, field), abs=1e-6)
    # What is new has no say at first: the run begins with its parent's answers.
    assert columns(learned, "age") == pytest.approx(0, abs=1e-6)
    for name in ("layers.1.weight", "layers.2.weight", "layers.0.bias"):
        assert weights_of(learned)[name] == pytest.approx(weights_of(teacher)[name], abs=1e-6)
    told = {one.field: one for one in learned.preparation.statistics}
    assert told["amount"].count < 120  # of the run's own rows


def test_the_lineage_says_what_was_taken_over(teacher: Learned) -> None:
    plan, table = pupil()
    learned = begun(plan, table, teacher)
    lineage = manifest(plan, learned, "test").lineage
    assert (lineage.parent_model, lineage.parent_version) == ("teacher", 2)
    width = learned.preparation.width
    assert list(lineage.carried) == [f"layers.0.weight ({width - 1} of {width} columns)", "layers.0.bias",
                                     "layers.1.weight", "layers.1.bias", "layers.2.weight", "layers.2.bias"]


def test_frozen_layers_stay_as_they_were_and_the_others_learn(teacher: Learned) -> None:
    plan, table = pupil(fields=("country", "amount", "member"), freeze=["layers.0", "layers.1.b*"])
    learned = learn(plan, Given(table, parent=teacher.weights), [])
    now, before = weights_of(learned), weights_of(teacher)
    assert np.array_equal(columns(learned, "amount"), columns(teacher, "amount"))
    assert np.array_equal(now["layers.0.bias"], before["layers.0.bias"])
    assert np.array_equal(now["layers.1.bias"], before["layers.1.bias"])
    assert not np.array_equal(now["layers.1.weight"], before["layers.1.weight"])
    assert not np.array_equal(now["layers.2.weight"], before["layers.2.weight"])


def three_classes(table: pa.Table) -> pa.Table:
    labels = ["low" if place % 3 else "middle" if label == "low" else "high"
              for place, label in enumerate(table.column(LABEL).to_pylist())]
    return table.set_column(table.column_names.index(LABEL), LABEL, pa.array(labels))


@pytest.mark.parametrize("head", ["auto", "replace"])
def test_a_new_head_answers_other_classes(teacher: Learned, head: str) -> None:
    plan, table = pupil(head=head)
    learned = learn(plan, Given(three_classes(table), parent=teacher.weights), [])
    assert learned.target.classes == ("high", "low", "middle")
    assert weights_of(learned)["layers.2.weight"].shape == (3, 8)
    assert not [one for one in learned.carried if one.startswith("layers.2")]
    assert Session(learned.exported.data).answers(inputs_of(plan.fields, table))["probabilities"].shape[1] == 3


def test_a_head_can_be_replaced_though_it_answers_the_same(teacher: Learned) -> None:
    kept, new = begun(*pupil(), teacher), begun(*pupil(head="replace"), teacher)
    assert weights_of(kept)["layers.2.weight"] == pytest.approx(weights_of(teacher)["layers.2.weight"], abs=1e-6)
    assert np.abs(weights_of(new)["layers.2.weight"] - weights_of(teacher)["layers.2.weight"]).max() > 0.01


def test_the_same_plan_and_rows_give_the_same_bytes_with_a_resume_and_without(teacher: Learned) -> None:
    plan, table = pupil(freeze=["layers.1.*"])
    saved: list[bytes] = []
    whole = learn(plan, Given(table, parent=teacher.weights), [Checkpoint(saved.append)])
    again = learn(plan, Given(table, parent=teacher.weights), [])
    resumed = learn(plan, Given(table, parent=teacher.weights, checkpoint=saved[2]), [])
    assert whole.weights == again.weights == resumed.weights
    assert whole.exported.data == again.exported.data == resumed.exported.data


@pytest.mark.parametrize(("transfer", "why", "remedy"), [
    ({"freeze": ["layers.9.*"]}, "transfer.freeze: `layers.9.\\*` matches nothing", "layers.0.weight"),
    ({"freeze": ["*"]}, "leaves nothing to learn", "last layer"),
    ({"freeze": ["layers.0.*"]}, "transfer.freeze: age would have no say", "input: false")])
def test_what_cannot_be_frozen_is_named(teacher: Learned, transfer: dict[str, Any], why: str, remedy: str) -> None:
    plan, table = pupil(**transfer)
    fails(plan, table, teacher, why, remedy)


def test_a_head_that_answers_something_else_cannot_be_kept(teacher: Learned) -> None:
    plan, table = pupil(head="keep")
    fails(plan, three_classes(table), teacher, "transfer.head: that of version 2 of teacher answers classes high, low",
          "replace")


def test_fields_that_are_all_foreign_are_named(teacher: Learned) -> None:
    plan, table = pupil(fields=("age",))
    fails(plan, table, teacher, "no field has the name and type", "amount \\(float\\)")


def test_a_parent_of_another_shape_is_named_with_both_shapes(teacher: Learned) -> None:
    plan, table = pupil()
    plan = plan.model_copy(update={"parameters": Parameters(hidden=(16, 9), epochs=1)})
    fails(plan, table, teacher, r"another shape: layers.1.weight is of shape \[8, 16\] in version 2 of teacher",
          "hidden")


def test_a_family_of_one_layer_cannot_lose_its_head() -> None:
    plan, rows = samples.wine(parameters=Parameters(epochs=1))
    parent = learn(plan, Given(rows), [])
    fails(plan.model_copy(update={"parent": OTHER, "transfer": Transfer(head="replace")}), rows, parent,
          "no layer but its head", "keep")


def test_an_autoencoder_goes_on_with_the_fields_it_knows() -> None:
    plan, rows = samples.wine(task="anomaly", family="autoencoder", parameters=Parameters(hidden=(8,), epochs=3))
    rows = rows.set_column(rows.column_names.index(LABEL), LABEL, pa.nulls(rows.num_rows, pa.float64()))
    parent = learn(plan, Given(rows), [])
    some = plan.model_copy(update={"fields": plan.fields[4:], "parent": OTHER, "transfer": Transfer()})
    learned = learn(some, Given(rows.drop_columns(["f0", "f1", "f2", "f3"]), parent=parent.weights), [])
    assert "layers.0.weight (9 of 9 columns)" in learned.carried
    assert learned.metrics["separation"] > 0.5


def fails(plan: Plan, table: pa.Table, parent: Learned, why: str, remedy: str) -> None:
    with pytest.raises(RunFailed, match=why) as failed:
        learn(plan, Given(table, parent=parent.weights), [])
    assert failed.value.failure_class == "parameter"
    assert remedy.replace("\\", "") in failed.value.remedy


def test_what_has_no_head_cannot_replace_it() -> None:
    plan, rows = samples.wine(task="anomaly", family="autoencoder", parameters=Parameters(hidden=(8,), epochs=1))
    rows = rows.set_column(rows.column_names.index(LABEL), LABEL, pa.nulls(rows.num_rows, pa.float64()))
    parent = learn(plan, Given(rows), [])
    fails(plan.model_copy(update={"parent": OTHER, "transfer": Transfer(head="replace")}), rows, parent,
          "transfer.head: a autoencoder has no last layer", "train instead")
