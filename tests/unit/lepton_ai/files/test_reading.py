"""Rows of files as the SDK reads them: one that cannot be told is passed over by itself, and long ones come a few at a
time."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lepton.errors import Invalid
from lepton_ai._files.profile import profile
from lepton_ai._files.reading import MAX_ROW_BYTES, open_rows
from lepton_ai._jobs.reading import Reading


def test_rows_of_parquet_that_cannot_be_told_stop_neither_profile_nor_replay_nor_job(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    notes = pa.DictionaryArray.from_arrays([0, 0, 1, 0], ["ok", "x" * (MAX_ROW_BYTES + 1)])
    pq.write_table(pa.table({"order": ["a", "b", "c", "d"], "price": [1.0, 2.0, 3.0, 4.0], "note": notes,
                             "at": pa.array([0, 2**62, 0, 1001], pa.timestamp("us"))}), path)
    file = open_rows(path)
    found = list(file.records())
    assert [(record.number, record.share, record.values and record.values["order"]) for record in found] == [
        (1, 0.25, "a"), (2, 0.5, None), (3, 0.75, None), (4, 1.0, "d")]
    assert [record.problem and record.problem.message.partition(":")[0] for record in found] == [
        None, "out_of_range", "too_large", None]
    seen = profile(file)
    assert (seen.rows, seen.unreadable) == (4, 2)
    items = [Reading(file, [{"name": "price", "datatype": "FP64", "shape": [-1]}], ["order"]).item(record)
             for record in found]
    assert [(item.fields.get("price"), item.problem is None) for item in items] == [
        (1.0, True), (None, False), (None, False), (4.0, True)]


def test_what_is_no_parquet_file_is_said_with_its_path(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    path.write_bytes(b"PAR1 and nothing else PAR1")
    with pytest.raises(Invalid, match="cannot be read as Parquet") as caught:
        open_rows(path)
    assert caught.value.place == str(path)
