"""What a Pipeline may ask a search for, and what it is told when nothing could be tried."""

import pytest

from lepton.contracts import pipeline

HEAD = """
apiVersion: lepton/v1
kind: Pipeline
metadata: {name: shop}
events:
  fields: {price: {type: float}}
  label: {field: sold, type: bool}
"""


def test_a_search_is_read_with_its_ranges() -> None:
    spec = pipeline.parse(HEAD + """
model:
  family: mlp
  search:
    trials: 12
    seconds: 60
    ranges:
      learning_rate: {low: 0.001, high: 0.1, log: true}
      batch_size: {low: 16, high: 256}
      hidden: {one_of: [[16], [32, 16]]}
      optimizer: {one_of: [adam, sgd]}
""")
    assert spec.model is not None and spec.model.search is not None
    assert (spec.model.search.trials, spec.model.search.seconds, list(spec.model.search.ranges)) == (
        12, 60, ["learning_rate", "batch_size", "hidden", "optimizer"])
    assert pipeline.from_json(spec.canonical_json()).digest() == spec.digest()


def test_auto_takes_ranges_of_any_family_and_parameters_of_all() -> None:
    spec = pipeline.parse(HEAD + "model: {family: auto, parameters: {epochs: 9}, search: {ranges: "
                                 "{dropout: {low: 0, high: 0.5}}}}")
    assert spec.model is not None and spec.model.family == "auto"


@pytest.mark.parametrize(("model", "path", "message"), [
    ("family: auto, parameters: {hidden: [8]}", "model.parameters.hidden", "auto has no parameter `hidden`"),
    ("family: mlp, search: {trials: 0}", "model.search.trials", "greater than or equal to 1"),
    ("family: mlp, search: {tirals: 3}", "model.search.tirals", "unknown key"),
    ("family: mlp, search: {ranges: {seed: {low: 1, high: 3}}}", "model.search.ranges.seed", "nothing a search"),
    ("family: mlp, search: {ranges: {speed: {low: 1, high: 3}}}", "model.search.ranges.speed", "nothing a search"),
    ("family: logistic_regression, search: {ranges: {dropout: {low: 0, high: 0.5}}}", "model.search.ranges.dropout",
     "nothing a search for logistic_regression tries"),
    ("family: mlp, search: {ranges: {l2: {}}}", "model.search.ranges.l2", "no values"),
    ("family: mlp, search: {ranges: {l2: {low: 1, high: 1}}}", "model.search.ranges.l2", "nothing lies between"),
    ("family: mlp, search: {ranges: {l2: {low: 0, high: 1, log: true}}}", "model.search.ranges.l2", "nothing lies"),
    ("family: mlp, search: {ranges: {l2: {low: 0, high: 1, one_of: [1]}}}", "model.search.ranges.l2", "two sets"),
    ("family: mlp, search: {ranges: {l2: {low: 0, high: 1000}}}", "model.search.ranges.l2", "less than or equal"),
    ("family: mlp, search: {ranges: {batch_size: {low: 1.5, high: 9}}}", "model.search.ranges.batch_size", "integer"),
    ("family: mlp, search: {ranges: {hidden: {low: 1, high: 9}}}", "model.search.ranges.hidden", "no values"),
    ("family: mlp, search: {ranges: {optimizer: {one_of: [adam, fast]}}}", "model.search.ranges.optimizer", "fast"),
    ("family: autoencoder, search: {trials: 3}", "model.search", "no labels that trials could be compared by"),
])
def test_what_cannot_be_tried_is_told_with_its_place(model: str, path: str, message: str) -> None:
    with pytest.raises(pipeline.InvalidPipeline) as refused:
        pipeline.parse(HEAD + f"model: {{{model}}}\n")
    (problem,) = refused.value.problems
    assert problem.path == path
    assert message in problem.message
