"""The two clinics of the few-shot example: what is uploaded for each is what its Pipeline takes and learns from."""

from typing import Literal

import pytest

from examples.fewshot.data import clinic, spec
from tests.unit.examples.taken import refusals


@pytest.mark.parametrize(("which", "name", "tumours"), [("large", "teacher", 285), ("small", "pupil", 16)])
def test_a_clinics_rows_are_taken_by_its_pipeline_and_are_enough_for_its_first_run(
        which: Literal["large", "small"], name: str, tumours: int) -> None:
    of, rows = spec(name), clinic(which)
    assert of.model is not None
    assert of.model.train.first_rows <= len(rows) == tumours
    assert {row["malignant"] for row in rows} == {True, False}
    assert refusals(of, rows) == []
