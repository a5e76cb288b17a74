"""Files become rows whose names and types a Pipeline knows, and what was changed on the way is said."""

from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lepton.contracts.reading.rules import FIELD_NAME
from lepton.errors import Invalid, Missing
from lepton_ai import _data
from lepton_ai._data import find_file, from_rows, read


def write(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


def test_the_three_formats_read_alike(tmp_path: Path) -> None:
    csv = read(write(tmp_path / "a.csv", "Size (cm),ok,kind\n1.5,true,x\n,false,NA\n"))
    jsonl = read(write(tmp_path / "a.jsonl", '{"Size (cm)": 1.5, "ok": true, "kind": "x"}\n{"ok": false}\n'))
    table = pa.table({"Size (cm)": [1.5, None], "ok": [True, False], "kind": ["x", None]})
    pq.write_table(table, tmp_path / "a.parquet")
    parquet = read(tmp_path / "a.parquet")
    rows = [{"size_cm": 1.5, "ok": True, "kind": "x"}, {"ok": False}]
    assert [one.dicts(0, 2) for one in (csv, jsonl, parquet)] == [rows] * 3
    assert csv.columns["size_cm"] == "Size (cm)"
    assert "column Size (cm) is called size_cm" in csv.notes


def test_a_name_finds_its_file_with_or_without_extension(tmp_path: Path) -> None:
    path = write(tmp_path / "dataset.csv", "a\n1\n")
    assert find_file("dataset", tmp_path) == find_file("dataset.csv", tmp_path) == path
    assert find_file("other", tmp_path) is None
    write(tmp_path / "dataset.jsonl", "{}")
    with pytest.raises(Invalid, match=r"dataset\.csv or dataset\.jsonl"):
        find_file("dataset", tmp_path)


@pytest.mark.parametrize(("name", "text", "why"), [
    ("a.csv", "a,b\n", "no rows"), ("a.csv", "a\n\n", "no rows"), ("a.csv", "a,b\nNA,\n", "every column is empty"),
    ("a.csv", "a,b\n1\n", "cannot be read as csv"), ("a.jsonl", "{", "cannot be read as jsonl"),
    ("a.parquet", "PAR1", "cannot be read as parquet"), ("a.xls", "x", "not a format"), ("a", "x", "no extension"),
    ("a.jsonl", '{"a": [1]}\n', "which is no number"), ("a.jsonl", '{"a": 1}\n{"a": "x"}\n', "cannot be read"),
])
def test_a_file_that_cannot_be_read_says_why(name: str, text: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=why) as refused:
        read(write(tmp_path / name, text))
    assert refused.value.place is not None and name in refused.value.place


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(Missing):
        read(tmp_path / "a.csv")


def test_values_that_are_not_finite_count_as_missing() -> None:
    rows = from_rows([{"a": float("inf"), "b": 1}, {"a": 2.0, "b": 2}])
    assert rows.dicts(0, 2) == [{"b": 1}, {"a": 2.0, "b": 2}]
    assert any("not finite" in note for note in rows.notes)


def test_dates_become_epoch_seconds_and_categories_text() -> None:
    table = pa.table({"day": [date(1970, 1, 2), None], "kind": pa.array(["x", "y"]).dictionary_encode()})
    rows = _data.from_table(table, "d", "here")
    assert rows.dicts(0, 2) == [{"day": 86400.0, "kind": "x"}, {"kind": "y"}]


def test_an_empty_column_is_left_out_and_said() -> None:
    rows = from_rows([{"a": None, "b": 1}])
    assert rows.table.column_names == ["b"]
    assert rows.notes == ("column a is empty and was left out",)


def test_numbers_too_large_are_refused_by_column() -> None:
    with pytest.raises(Invalid, match="column big"):
        _data.from_table(pa.table({"big": pa.array([2**63], pa.uint64())}), "d", "here")


def test_rows_that_mix_types_are_refused() -> None:
    with pytest.raises(Invalid, match="do not make a table"):
        from_rows([{"a": 1}, {"a": "x"}])


@given(st.lists(st.text(max_size=80), max_size=20))
def test_every_column_gets_a_field_name_of_its_own(columns: list[str]) -> None:
    names = list(_data.field_names(columns))
    assert len(set(names)) == len(columns)
    assert all(FIELD_NAME.match(name) and name != "default" for name in names)


@given(st.from_regex(FIELD_NAME, fullmatch=True))
def test_a_field_name_stays_as_it_is(name: str) -> None:
    assert _data.field_name(name) == (name if name != "default" else "default_field")


def test_the_same_bytes_have_the_same_digest(tmp_path: Path) -> None:
    assert read(write(tmp_path / "a.csv", "a\n1\n")).digest == read(write(tmp_path / "b.csv", "a\n1\n")).digest
