"""docs/schema.md names every type, key and code there is, and its example does what it says."""

import json
import re
from pathlib import Path
from typing import get_args

from lepton.contracts.pipeline import parse
from lepton.contracts.pipeline_blocks import FieldSpec, FieldType
from tests.unit.ingest.reading.plant import judged, kept
from tests.unit.ingest.samples import records

PAGE = (Path(__file__).parents[4] / "docs" / "schema.md").read_text("utf-8")


def rows_of(title: str) -> set[str]:
    """First cells of the table under a heading."""
    part = PAGE.split(f"## {title}\n")[1].split("\n## ")[0]
    return set(re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE))


def test_every_type_key_and_code_has_its_row() -> None:
    assert rows_of("Types") == set(get_args(FieldType))
    assert rows_of("Keys of a field") == set(FieldSpec.model_fields)
    assert rows_of("Codes") == {"missing", "wrong_type", "out_of_range", "unknown_category", "unknown_unit",
                                "malformed"}


def test_the_example_is_judged_as_the_page_says() -> None:
    spec, lines = re.findall(r"<<'EOF'\n(.*?)\nEOF", PAGE, re.DOTALL)
    found = judged(parse(spec), records(*map(json.loads, lines.splitlines())))
    first, second = kept(found).to_pylist()
    assert (first["temperature"], first["pressure"], first["state"]) == (100.0, 10.0, "on")
    assert second["_event_id"] == "e-2"
    assert [(one.code, one.field) for one in found.rejections] == [
        ("unknown_unit", "temperature"), ("out_of_range", "embedding")]
