"""A Pipeline proposed for a file is valid, says why, and takes the very file it was proposed for."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lepton.errors import Invalid
from lepton_ai._files.profile import profile
from lepton_ai._files.proposal import Proposal, propose
from lepton_ai._files.reading import open_rows
from tests.unit.gateway.house import House
from tests.unit.lepton_ai.files.desk import client, events, lepton

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def rows(count: int = 200) -> list[dict[str, Any]]:
    return [{"Order No": f"o-{n}", "customer": f"c-{n % 9}", "sold at": (BEGIN + timedelta(hours=n)).isoformat(),
             "price": n / 4 if n % 5 else None, "items": n % 6, "Colour": ["red", "blue", "on"][n % 3],
             "bought": n % 2 == 0, "embedding": [n, 1.5], "track": [1] * (n % 3 + 1),
             "note": f"text {n}: # not a comment", "nothing": None, "default": n} for n in range(count)]


def as_csv(path: Path, found: list[dict[str, Any]]) -> Path:
    def text(value: Any) -> str:
        if value is None:
            return ""
        return '"' + (json.dumps(value) if isinstance(value, list | bool) else str(value)).replace('"', '""') + '"'
    lines = [",".join(found[0]), *(",".join(text(value) for value in row.values()) for row in found)]
    path.write_text("\n".join(lines), "utf-8")
    return path


def as_jsonl(path: Path, found: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in found), "utf-8")
    return path


def as_parquet(path: Path, found: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist([{**row, "sold at": datetime.fromisoformat(row["sold at"])} for row in found]),
                   path)
    return path


def proposed(path: Path, **asked: Any) -> Proposal:
    return propose(profile(open_rows(path)), path.name, **asked)


FORMS = [(as_csv, "shop.csv"), (as_jsonl, "shop.jsonl"), (as_parquet, "shop.parquet")]


@pytest.mark.parametrize(("write", "name"), FORMS, ids=[name for _, name in FORMS])
async def test_the_proposal_takes_the_file_whatever_its_form(write: Any, name: str, house: House,
                                                            tmp_path: Path) -> None:
    found = proposed(write(tmp_path / name, rows()), label="bought")
    events_block = found.pipeline.events
    assert (events_block.id, events_block.entity, events_block.time) == ("Order No", "customer", "sold at")
    assert {field: spec.type for field, spec in events_block.fields.items()} == {
        "price": "float", "items": "int", "colour": "category", "embedding": "vector", "track": "sequence",
        "note": "text", "default_field": "int"}
    assert {field for field, spec in events_block.fields.items() if not spec.required} == {"price"}
    assert events_block.label is not None and events_block.label.field == "bought"
    assert found.pipeline.model is not None and found.pipeline.model.family == "logistic_regression"
    assert "column nothing was left out: it is empty" in found.notes
    for comment in ("never missing, never twice", "9 different values in 200 rows", "0.25 to 49.75",
                    "missing in 40 of 200", "always 2 numbers", "1 to 3 numbers", '"red", "blue", "on"'):
        assert comment in found.text, found.text
    assert (await house.apply(found.text)).status_code == 201
    async with client(house) as sdk:
        done = await sdk.upload("shop", tmp_path / name)
    assert (done.rows, done.refused) == (200, 0)
    sent = dict(await events(house))
    assert sent["o-7"] == {
        "Order No": "o-7", "customer": "c-7", "price": 1.75, "items": 1, "colour": "blue", "bought": False,
        "embedding": [7, 1.5], "track": [1, 1], "note": "text 7: # not a comment", "default_field": 7,
        "sold at": sent["o-7"]["sold at"]} | ({"nothing": None} if name == "shop.jsonl" else {})
    assert datetime.fromisoformat(sent["o-7"]["sold at"]) == BEGIN + timedelta(hours=7)


def test_a_file_without_names_for_things_still_makes_a_pipeline(tmp_path: Path) -> None:
    (tmp_path / "2026 Data!.csv").write_text("x,v?\n" + "".join(f"{n},{n * 2.5}\n" for n in range(20)), "utf-8")
    found = proposed(tmp_path / "2026 Data!.csv")
    assert found.pipeline.name == "2026-data"
    assert (found.pipeline.events.id, found.pipeline.events.label) == ("event_id", None)
    assert "no column names each row once" in found.text and "no column looks like the time" in found.text


@pytest.mark.parametrize(("column", "values", "kind"), [
    ("a", ["1", "2", "3"], "int"), ("a", ["1", "2.5", ""], "float"), ("a", ["true", "FALSE", ""], "bool"),
    ("a", ["2026-01-01", "2026-01-02T10:00:00Z", ""], "time"), ("a", ["x", "y", "x"] * 3, "category"),
    ("a", ["99999999999999999999", "1", "2"], "float"), ("a", ["NA", "7", "null"], "int"),
    ("a", [str(n) for n in range(99)] + ["?"], "int"), ("a", [f"w{n}" for n in range(60)], "text"),
    ("yes", ["1", "2", "2"], "int"),
])
def test_types_are_told_from_text(column: str, values: list[str], kind: str, tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text(f"{column},b\n" + "".join(f"{value},1\n" for value in values), "utf-8")
    found = proposed(tmp_path / "f.csv").pipeline.events
    assert (found.time == "a") if kind == "time" else found.fields[column].type == kind


def test_a_label_is_guessed_by_its_name_alone(tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text("a,is_fraud,z\n" + "".join(f"{n},{n % 2},{n % 3}\n" for n in range(30)), "utf-8")
    found = proposed(tmp_path / "f.csv").pipeline
    assert found.events.label is not None and found.events.label.field == "is_fraud"
    assert found.task == "classification"
    numbers = proposed(tmp_path / "f.csv", label="a").pipeline
    assert numbers.task == "regression" and numbers.model is not None and numbers.model.family == "linear_regression"
    with pytest.raises(Invalid, match="no column 'nope'"):
        proposed(tmp_path / "f.csv", label="nope")


def test_rows_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text("a,b\n1,2\n1\n3,4\n", "utf-8")
    assert proposed(tmp_path / "f.csv").notes == ("1 of 3 rows cannot be read and were left out",)
    for text, why in (("", "empty"), ("a,b\n", "no row"), ("a,b\n1\n", "no row")):
        (tmp_path / "g.csv").write_text(text, "utf-8")
        with pytest.raises(Invalid, match=why):
            proposed(tmp_path / "g.csv")


async def test_the_command_writes_what_apply_takes(house: House, tmp_path: Path) -> None:
    path, out = as_csv(tmp_path / "shop.csv", rows()), tmp_path / "pipeline.yaml"
    done = await lepton(house, "infer", str(path), "--label", "bought", "--out", str(out), "--name", "till")
    assert done.code == 0, done.err
    assert f"lepton apply -f {out}" in done.out and "note: column nothing was left out" in done.err
    assert (await lepton(house, "infer", str(path), "-o", str(out))).code == 1
    applied = await lepton(house, "apply", "-f", str(out))
    assert "till version 1" in applied.out, applied.err
