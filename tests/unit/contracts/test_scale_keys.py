"""Where a run can be shared by processes, and how finely it may count."""

import pytest

from lepton.contracts import pipeline
from lepton.contracts.modelling.families import FAMILIES
from lepton.contracts.modelling.training_blocks import WHOLE
from lepton.errors import Invalid

SPEC = """
apiVersion: lepton/v1
kind: Pipeline
metadata: {name: p}
events:
  fields: {size: {type: float}}
  label: {field: good, type: bool}
model:
  family: mlp
  train: {processes: 4, precision: bfloat16}
"""


def test_a_run_is_of_one_process_and_whole_precision_unless_it_says_more() -> None:
    asked, plain = (pipeline.parse(text).model for text in (
        SPEC, SPEC.replace("{processes: 4, precision: bfloat16}", "{}")))
    assert asked is not None and plain is not None
    assert (asked.train.processes, asked.train.precision) == (4, "bfloat16")
    assert (plain.train.processes, plain.train.precision) == (1, "float32")


@pytest.mark.parametrize("wrong", ["processes: 0", "processes: 65", "processes: 1.5"])
def test_nobody_is_a_crew_and_an_army_is_none(wrong: str) -> None:
    with pytest.raises(Invalid, match="processes"):
        pipeline.parse(SPEC.replace("processes: 4", wrong))


@pytest.mark.parametrize(("changed", "by", "why"), [
    ("family: mlp", "family: torch_module\n  parameters: {module: 'a:b'}", "keeps of a batch"),
    ("family: mlp", "family: auto", "one after another"),
    ("  train:", "  search: {trials: 3}\n  train:", "a search tries one after another"),
    ("processes: 4,", "processes: 4, stream: {},", "a stream is learnt in one process"),
    ("processes: 4, precision: bfloat16", "stream: {}, precision: bfloat16", "as precisely as numpy"),
    ("bfloat16", "float8", "precision")])
def test_what_cannot_be_shared_is_refused_and_says_why(changed: str, by: str, why: str) -> None:
    with pytest.raises(Invalid, match=why):
        pipeline.parse(SPEC.replace(changed, by))


def test_families_of_one_process_are_families() -> None:
    assert set(WHOLE) <= set(FAMILIES)
