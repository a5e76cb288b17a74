"""Rows of the examples whose models are tested elsewhere are taken by their own Pipelines, and so are their labels."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from examples import alone
from examples.allocation.data import decisions
from examples.digits.data import images
from examples.motors.data import recordings
from services.ingest.core.labels import Labels
from tests.unit.examples.taken import refusals
from tests.unit.ingest.samples import record

Rows = Sequence[Mapping[str, Any]]


@pytest.mark.parametrize(("example", "rows", "labels"), [
    ("digits", [one.event("r") for one in images()], [one.label("r") for one in images()]),
    ("motors", [one.event("r") for one in recordings()], [one.label("r") for one in recordings()]),
    ("allocation", decisions(weeks=100), [])], ids=["digits", "motors", "allocation"])
def test_its_rows_and_labels_are_taken_by_its_pipeline(example: str, rows: Rows, labels: Rows) -> None:
    of = alone.spec(example)
    assert refusals(of, rows) == []
    sent = [record(json.dumps(one).encode(), offset) for offset, one in enumerate(labels)]
    read = Labels(of, spec_version=1).read(sent)
    assert (len(read.outcomes), read.rejections) == (len(labels), [])
