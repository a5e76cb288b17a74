"""Rows nobody described get a Pipeline that is valid, stable, and says why its label is its label."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lepton.contracts.pipeline import Pipeline, from_json
from lepton.errors import Invalid
from lepton_ai._data import Rows, from_rows
from lepton_ai._infer import Derived, choose_label, cleaned, derive, event_id, is_derived, task_for, task_of


def rows(**columns: list[Any]) -> Rows:
    names = list(columns)
    return from_rows([dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)])


def checked(derived: Derived) -> Pipeline:
    return from_json(json.dumps(derived.spec))


HOUSES = rows(size=[50.0, 80.5, 120.0] * 10, rooms=[1, 3, 4] * 10, kind=["flat", "house", "flat"] * 10,
              price=[100, 250, 420] * 10)


@pytest.mark.parametrize(("columns", "label", "chosen", "because"), [
    (["a", "label", "b"], None, "label", "is called label"), (["y", "a", "target"], None, "target", "is called target"),
    (["Y", "b"], None, "y", "is called Y"), (["a", "b"], None, "b", "last column"), (["a", "b"], "a", "a", "asked for"),
    (["A b", "c"], "A b", "a_b", "asked for"), (["A b", "c"], "a_b", "a_b", "asked for"),
])
def test_the_label_is_asked_for_or_named_or_last(columns: list[str], label: str | None, chosen: str,
                                                 because: str) -> None:
    found, why = choose_label(rows(**{name: [1, 2] for name in columns}), label)
    assert found == chosen
    assert because in why


def test_a_label_that_is_no_column_is_refused() -> None:
    with pytest.raises(Invalid, match="no column 'cost'") as refused:
        derive("houses", HOUSES, "cost")
    assert "price" in str(refused.value.remedy)


def test_a_derived_pipeline_is_valid_and_typed() -> None:
    derived = derive("My houses!", HOUSES)
    pipeline = checked(derived)
    assert {name: spec.type for name, spec in pipeline.fields.items()} == {
        "size": "float", "rooms": "int", "kind": "category"} == derived.fields
    assert (pipeline.task, pipeline.label_field, pipeline.metadata.dataset) == ("regression", "price", "My houses!")
    assert pipeline.name.startswith("my-houses-")


def test_the_same_rows_have_the_same_name_and_event_ids() -> None:
    assert derive("houses", HOUSES).name == derive("houses", HOUSES).name
    assert derive("houses", HOUSES).name != derive("houses", HOUSES, "rooms").name
    assert derive("houses", HOUSES).event(3, {}) == {"event_id": event_id(HOUSES.digest, 3)}


def test_columns_called_like_the_events_own_members_stay_columns() -> None:
    derived = derive("x", rows(event_id=[1, 2], occurred_at=[1.0, 2.0], y=[1.0, 2.0]))
    assert set(checked(derived).fields) == {"event_id", "occurred_at"}
    assert set(derived.event(0, {"event_id": 7})) == {"lepton_event_id", "event_id"}


@pytest.mark.parametrize(("values", "task", "kind", "wanted"), [
    ([True, False], None, "bool", "classification"), ([True, False], "regression", "float", "regression"),
    ([0, 1], None, "int", "regression"), ([0, 1], "classification", "int", "classification"),
    (["a", "b"], None, "category", "classification"), ([0.5, 1.5], None, "float", "regression"),
])
def test_a_label_is_described_for_its_task(values: list[Any], task: str | None, kind: str, wanted: str) -> None:
    derived = derive("x", rows(a=[1.0, 2.0], y=values), task=task)
    assert derived.spec["events"]["label"]["type"] == kind
    assert checked(derived).task == wanted == task_of(derived.spec)


@pytest.mark.parametrize(("values", "task", "why"), [
    (["a", "b"], "regression", "is text"), ([0.5, 1.5], "classification", "is a fraction"),
    (["a", "a"], "classification", "1 different values"), ([1, 1], "classification", "1 different values"),
    ([f"n{index}" for index in range(200)], None, "200 different values"),
])
def test_a_label_that_fits_no_task_is_refused(values: list[Any], task: str | None, why: str) -> None:
    with pytest.raises(Invalid, match=why):
        derive("x", rows(a=[1.0] * len(values), y=values), task=task)


def test_a_truth_value_is_learnt_as_a_number_and_said() -> None:
    derived = derive("x", rows(a=[1.0, 2.0], y=[True, False]), task="regression")
    assert derived.rows.dicts(0, 2) == [{"a": 1.0, "y": 1.0}, {"a": 2.0, "y": 0.0}]
    assert any("0 and 1" in note for note in derived.rows.notes)


def test_a_label_alone_is_refused() -> None:
    with pytest.raises(Invalid, match="only column"):
        derive("x", rows(y=[1, 2]))


def test_text_with_many_values_is_text() -> None:
    many = rows(note=[f"note {index}" for index in range(60)], y=[1.0] * 60)
    assert derive("x", many).fields == {"note": "text"}


def like(derived: Derived) -> dict[str, Any]:
    """The resource as a gateway gives it back: every default written out."""
    return checked(derived).to_data()


def test_other_rows_take_the_form_of_the_model() -> None:
    more = rows(rooms=[2, 5], kind=["flat", "hut"], size=[60, 70], price=[150, 160])
    first, second = derive("houses", HOUSES), derive("more", more, like=like(derive("houses", HOUSES)))
    assert checked(first).input_schema_digest() == checked(second).input_schema_digest()
    assert second.rows.table.column("size").to_pylist() == [60.0, 70.0]
    assert second.label_because == "as in the model's data"


def test_a_label_of_another_name_is_renamed_when_asked_for() -> None:
    more = rows(rooms=[2, 5], kind=["flat", "hut"], size=[60.0, 70.0], cost=[150, 160])
    assert derive("more", more, "cost", like=like(derive("houses", HOUSES))).label == "price"


def test_rows_that_do_not_fit_the_model_say_every_reason() -> None:
    other = rows(rooms=["two", "five"], size=[60.0, 70.0], garden=[1, 2], price=[150, 160])
    with pytest.raises(Invalid) as refused:
        derive("other", other, like=like(derive("houses", HOUSES)))
    with pytest.raises(Invalid, match="price is missing"):
        derive("other", rows(rooms=[2], target=[5]), like=like(derive("houses", HOUSES)))
    for reason in ("kind is missing", "garden is not one of the model's", "rooms is no int"):
        assert reason in refused.value.message


def test_runs_of_a_derived_pipeline_wait_for_a_person() -> None:
    pipeline = checked(derive("houses", HOUSES))
    assert pipeline.model is not None and pipeline.model.train.first_rows > len(HOUSES)
    assert pipeline.model.train.every_rows == 0


def test_cleaning_changes_only_the_rules() -> None:
    derived = derive("houses", HOUSES)
    after = from_json(json.dumps(cleaned(derived.spec)))
    assert after.clean.outliers.action == "clip"
    assert after.events == checked(derived).events
    assert is_derived(like(derived))
    assert not is_derived({"metadata": {}, "events": {}})


def test_families_say_what_they_learn() -> None:
    assert [task_for(family) for family in ("linear_regression", "logistic_regression", "mlp")] == [
        "regression", "classification", None]
    with pytest.raises(Invalid, match="no model family"):
        task_for("transformer")


@given(st.text(min_size=1, max_size=60))
def test_any_name_makes_a_pipeline_name(name: str) -> None:
    assert checked(derive(name, HOUSES)).name


def test_a_pipeline_without_a_label_has_no_task() -> None:
    with pytest.raises(Invalid, match="no label"):
        task_of({"events": {"fields": {}}})
