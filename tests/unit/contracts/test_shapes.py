"""Vectors, sequences and texts in a Pipeline: which families take them, and what must fit."""

import pytest

from lepton.contracts.modelling.families import SHAPED
from lepton.contracts.pipeline import InvalidPipeline, Pipeline, parse

BASE = """\
apiVersion: lepton/v1
kind: Pipeline
metadata: {name: digits}
events:
  fields:
    age: {type: float}
    %s
  label: {field: digit, type: int, task: classification}
model: {family: %s, parameters: {%s}}
"""
PIXELS = "pixels: {type: vector, dims: 64}"


def pipeline(field: str = PIXELS, family: str = "cnn", parameters: str = "") -> Pipeline:
    return parse(BASE % (field, family, parameters))


@pytest.mark.parametrize("family", sorted(SHAPED))
@pytest.mark.parametrize("field", [PIXELS, "steps: {type: sequence, max_length: 20}", "note: {type: text}"])
def test_families_that_look_along_fields_take_each_kind(field: str, family: str) -> None:
    name = field.partition(":")[0]
    assert list(pipeline(field, family).inputs) == ["age", name]


@pytest.mark.parametrize("family", ["logistic_regression", "mlp"])
def test_other_families_take_lists_as_columns(family: str) -> None:
    assert pipeline(family=family).inputs["pixels"].tail == (64,)
    assert pipeline("steps: {type: sequence, max_length: 20}", family).inputs["steps"].tail == (20,)


@pytest.mark.parametrize(("field", "family", "parameters", "path", "said"), [
    ("place: {type: category}", "lstm", "", "model.family", "nothing to look along"),
    ("pixels: {type: vector, dims: 64, input: false}", "cnn", "", "model.family", "nothing to look along"),
    (PIXELS, "cnn", "image: [8, 9]", "model.parameters.image", "no vector has the 72 numbers"),
    (PIXELS, "gru", "image: [8, 8]", "model.parameters.image", "gru has no parameter"),
    (PIXELS, "transformer", "units: 10, heads: 4", "model.parameters.heads", "cannot be shared"),
    (PIXELS, "mlp", "channels: [4]", "model.parameters.channels", "mlp has no parameter")])
def test_what_does_not_fit_is_named_with_a_way_out(field: str, family: str, parameters: str, path: str,
                                                   said: str) -> None:
    with pytest.raises(InvalidPipeline) as refused:
        pipeline(field, family, parameters)
    found = next(one for one in refused.value.problems if one.path == path)
    assert said in found.message
    assert found.remedy


def test_what_nobody_takes_is_refused_without_a_label_too() -> None:
    with pytest.raises(InvalidPipeline) as refused:
        parse("apiVersion: lepton/v1\nkind: Pipeline\nmetadata: {name: digits}\nevents:\n  fields:\n"
              "    photo: {type: image}\nmodel: {family: autoencoder}\n")
    assert [one.path for one in refused.value.problems] == ["events.fields.photo.input"]


def test_an_image_for_a_model_is_to_be_a_vector_of_stated_size() -> None:
    with pytest.raises(InvalidPipeline) as refused:
        pipeline("photo: {type: image}", "logistic_regression")
    assert "vector with `image: [height, width]`" in refused.value.problems[0].remedy


def test_another_size_is_another_input_and_scalars_keep_their_digest() -> None:
    short, long = (pipeline(f"steps: {{type: sequence, max_length: {length}}}", "gru") for length in (20, 30))
    assert short.input_schema_digest() != long.input_schema_digest()
    # Of models that are published already.
    plain = pipeline("note: {type: text}", "mlp")
    assert plain.input_schema_digest() == "fb779682bc249c12978f21254bc3f2ae1469f22008398de87cb532dec9ea39de"
