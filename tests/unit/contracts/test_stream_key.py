"""What `model.train.stream` may be written beside."""

import pytest

from lepton.contracts import pipeline
from lepton.errors import Invalid

SPEC = """
apiVersion: lepton/v1
kind: Pipeline
metadata: {name: p}
events:
  fields: {size: {type: float}}
  label: {field: good, type: bool}
model:
  family: logistic_regression
  train: {stream: {candidate_rows: 500}}
"""


def test_a_stream_has_its_bounds_and_defaults() -> None:
    model = pipeline.parse(SPEC).model
    assert model is not None and model.train.stream is not None
    assert (model.train.stream.candidate_rows, model.train.stream.wait_rows) == (500, 20_000)
    with pytest.raises(Invalid, match="candidate_rows"):
        pipeline.parse(SPEC.replace("500", "5"))


def test_without_the_key_no_stream_is_learnt() -> None:
    model = pipeline.parse(SPEC.replace("train: {stream: {candidate_rows: 500}}", "train: {every_rows: 0}")).model
    assert model is not None and model.train.stream is None


@pytest.mark.parametrize(("changed", "by", "why"), [
    ("family: logistic_regression", "family: autoencoder", "only classes and numbers"),
    ("  train:", "  export: {precision: fp16}\n  train:", "published as they are")])
def test_what_a_stream_cannot_do_is_refused(changed: str, by: str, why: str) -> None:
    with pytest.raises(Invalid, match=why):
        pipeline.parse(SPEC.replace(changed, by))
