"""Every key of a field is refused where it makes no sense, with its line, its path and a way out."""

import pytest

from lepton.contracts.pipeline import InvalidPipeline, Problem, parse

BASE = """\
apiVersion: lepton/v1
kind: Pipeline
metadata: {name: plant}
events:
  entity: machine
  fields:
    size: {type: float}
    %s
  label: {field: %s}
"""


def problems(line: str, label: str = "broken, type: bool", more: str = "") -> list[Problem]:
    with pytest.raises(InvalidPipeline) as caught:
        parse(BASE % (line, label) + more)
    return caught.value.problems


@pytest.mark.parametrize(("line", "path", "said"), [
    ("x: {type: vector, input: false}", "dims", "needs its number of dimensions"),
    ("x: {type: sequence}", "max_length", "up to a length that is known"),
    ("x: {type: timestamp}", "input", "no model family takes a timestamp yet"),
    ("x: {type: image}", "input", "no model family takes an image yet"),
    ("x: {type: float, dims: 3}", "dims", "a float has no dims"),
    ("x: {type: text, max_length: 3}", "max_length", "a text has no max_length"),
    ("x: {type: vector, dims: 5, image: [2, 2]}", "image", "it has 4 numbers, the vector 5"),
    ("x: {type: vector, dims: 8, image: [2, 2, 2]}", "image", "no image has 2 colours"),
    ("x: {type: text, image: [2, 2]}", "image", "a text has no image"),
    ("x: {type: vector, dims: 4, max_bytes: 9}", "max_bytes", "a vector has no max_bytes"),
    ("x: {type: sequence, max_bytes: 3, input: false}", "max_bytes", "a sequence has no max_bytes"),
    ("x: {type: float, normalise: [trim]}", "normalise", "a float has no normalise"),
    ("x: {type: int, unit: s, accept_units: [h]}", "accept_units", "an int has no accept_units"),
    ("x: {type: float, accept_units: [K]}", "accept_units", "no unit to convert to"),
    ("x: {type: float, unit: degC, accept_units: [degF, kg]}", "accept_units[1]", "`kg` does not measure what"),
    ("x: {type: float, unit: degC, accept_units: [Kelvins]}", "accept_units[0]", "`Kelvins` is no unit that is known"),
    ("x: {type: float, unit: EUR, accept_units: [USD]}", "unit", "`EUR` is no unit that is known"),
    ("x: {type: float, unit: m, accept_units: ['9**9**9']}", "accept_units[0]", "cannot be read as a unit"),
    ("x: {type: float, unit: m, accept_units: [km, km]}", "accept_units", "appears twice"),
    ("x: {type: float, unit: m, accept_units: [m]}", "accept_units", "the field's own"),
    ("x: {type: float, out_of_range: clip}", "out_of_range", "clip needs a range"),
    ("x: {type: float, required: true, range: [0, 1], out_of_range: 'null'}", "out_of_range", "leave a required field"),
    ("x: {type: int, range: [0.2, 0.8]}", "range", "no whole number"),
    ("x: {type: category, categories: [a, B], normalise: [lower]}", "categories[1]", "`B` is never met"),
    ("machine: {type: text, normalise: [trim]}", "normalise", "the entity is never changed"),
    ("machine: {type: int, range: [0, 9], out_of_range: clip}", "out_of_range", "the entity is never changed"),
])
def test_a_key_that_makes_no_sense_is_named(line: str, path: str, said: str) -> None:
    (found,) = problems(line)
    name = line.partition(":")[0]
    assert found.path == f"events.fields.{name}.{path}"
    assert said in found.message
    assert found.remedy
    assert found.line > 0


@pytest.mark.parametrize(("line", "said"), [
    ("y: {type: float, range: [0, 1], out_of_range: clip}", "the label is never changed"),
    ("y: {type: category, normalise: [lower]}", "the label is never changed"),
    ("y: {type: timestamp, input: false}", "a timestamp cannot be a label"),
    ("y: {type: vector, dims: 2, input: false}", "a vector cannot be a label"),
])
def test_a_label_is_taken_as_it_comes(line: str, said: str) -> None:
    assert [found.message for found in problems(line, "y")] == [said]


@pytest.mark.parametrize("policy", ["mean", "mode", "forward_fill", "{constant: x}"])
def test_nothing_stands_in_for_what_no_model_takes(policy: str) -> None:
    found = problems("built: {type: timestamp, input: false}", more=f"clean: {{missing: {{built: {policy}}}}}\n")
    assert [one.message for one in found] == ["nothing stands in for a missing timestamp"]


def test_a_default_policy_reaches_only_what_a_model_takes() -> None:
    line, label = "built: {type: timestamp, input: false}", "broken, type: bool"
    filled = parse(BASE % (line, label) + "clean: {missing: {default: forward_fill}}\n")
    assert filled.missing_policy("size").kind == "forward_fill"
    assert filled.missing_policy("built").kind == "mode"
    dropped = parse(BASE % (line, label) + "clean: {missing: {default: drop}}\n")
    assert dropped.missing_policy("built").kind == "drop"


def test_a_unit_nobody_converts_may_be_anything() -> None:
    assert parse(BASE % ("x: {type: float, unit: bananas}", "broken, type: bool")).fields["x"].unit == "bananas"
