"""Parquet files of anyone: small ones that would become much memory, and rows read a few at a time from any on."""

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lepton.contracts.files import parquet
from lepton.contracts.files.tables import MAX_STEP_BYTES
from lepton.errors import Invalid


def written(table: pa.Table, **how: object) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **how)
    return sink.getvalue()


@pytest.mark.parametrize("encoding", ["PLAIN", "DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"])
@pytest.mark.parametrize("listed", [False, True])
def test_texts_are_read_in_whatever_encoding_they_are_written(encoding: str, listed: bool) -> None:
    texts = [f"text {number}" for number in range(1000)]
    data = written(pa.table({"text": [[one, one] for one in texts] if listed else texts, "n": range(1000)}),
                   use_dictionary=False, column_encoding={"text.list.element" if listed else "text": encoding})
    with parquet.opened(data) as file:
        found = [row for some in parquet.rows(file, 300) for row in some]
    assert [row["text"] for row in found if isinstance(row, dict)] == (
        [[one, one] for one in texts] if listed else texts)


def test_a_text_that_grows_by_a_letter_a_row_does_not_become_much_memory() -> None:
    texts = ["x" * (100 * number) for number in range(1, 1001)]
    data = written(pa.table({"text": texts}), use_dictionary=False, column_encoding={"text": "DELTA_BYTE_ARRAY"})
    assert len(data) < 2_000_000
    with parquet.opened(data) as file:
        sizes = [batch.get_total_buffer_size() for batch in parquet.batches(file, 1000)]
    assert max(sizes) <= 2 * MAX_STEP_BYTES


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.list_(pa.string()),
                                  pa.struct([("a", pa.large_binary())])])
def test_a_text_that_repeats_is_in_memory_once_whatever_holds_it(kind: pa.DataType) -> None:
    text = "x" * 900_000
    value = [text] if pa.types.is_list(kind) else {"a": text} if pa.types.is_struct(kind) else text
    data = written(pa.table({"text": pa.array([value] * 40, kind)}))
    assert len(data) < 100_000
    with parquet.opened(data) as file:
        (batch,) = parquet.batches(file, 40)
        assert batch.get_total_buffer_size() < 1_000_000
        assert [len(step) for step in parquet.rows(file, 40)] == [MAX_STEP_BYTES // 900_100, 40 - 37]


def test_bytes_of_a_fixed_length_are_read_as_few_rows_as_fit() -> None:
    data = written(pa.table({"pixels": pa.array([b"x" * 900_000] * 40, pa.binary(900_000))}))
    with parquet.opened(data) as file:
        assert [batch.num_rows for batch in parquet.batches(file, 1000)] == [37, 3]


def test_lists_that_a_run_makes_long_are_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "MAX_COLUMN_BYTES", 1_000_000)
    many = 125_001
    numbers = pa.FixedSizeListArray.from_arrays(pa.nulls(many, pa.bool_()), many).cast(pa.list_(pa.bool_()))
    data = written(pa.table({"numbers": numbers}), compression="zstd")
    assert len(data) < 2_000
    with pytest.raises(Invalid, match="more than 1000000 bytes") as caught, parquet.opened(data):
        pass
    assert (caught.value.place, caught.value.remedy) == ("numbers.list.element", "write it with smaller row groups")


def test_rows_go_on_from_any_row_over_row_groups(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    path.write_bytes(written(pa.table({"n": range(100), "other": ["x"] * 100}), row_group_size=30))
    with parquet.opened(path) as file:
        for start in (0, 7, 29, 30, 31, 65, 99, 100):
            found = [row for step in parquet.rows(file, 8, ["n"], start) for row in step]
            assert found == [{"n": number} for number in range(start, 100)]


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" + b"\xff" * 64 + b"\x10\0\0\0PAR1"])
def test_what_is_no_parquet_file_is_said_so(data: bytes) -> None:
    with pytest.raises(Invalid, match="cannot be read as Parquet") as caught, parquet.opened(data):
        pass
    assert caught.value.field == "format"


def test_a_file_of_very_many_columns_is_refused() -> None:
    names = [f"c{place}" for place in range(parquet.MAX_COLUMNS + 1)]
    data = written(pa.table([pa.array([1])] * len(names), names))
    with pytest.raises(Invalid, match="more than 10000 columns"), parquet.opened(data):
        pass
