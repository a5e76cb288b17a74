"""Frames of any make as Arrow tables that a gateway takes."""

import polars
import pyarrow as pa
import pytest

from lepton.contracts.arrow.stream import read_table, write_pieces
from lepton.errors import Invalid
from lepton_ai import _sending


@pytest.mark.parametrize("frame", [
    pa.table({"door": ["north", None], "opened_s": [1.5, 2.0]}),
    pa.RecordBatch.from_pydict({"door": ["north", None], "opened_s": [1.5, 2.0]}),
    polars.DataFrame({"door": ["north", None], "opened_s": [1.5, 2.0]}),
    pa.table({"door": pa.array(["north", None]).cast(pa.string_view()), "opened_s": [1.5, 2.0]}),
    polars.DataFrame({"door": ["north", None], "opened_s": [1.5, 2.0]},
                     schema_overrides={"door": polars.Categorical})],
    ids=["table", "batch", "polars", "view", "categorical"])
def test_every_frame_says_the_same(frame: object) -> None:
    table = _sending.table_of(frame)
    pieces, too_large = write_pieces(table, _sending.MAX_BYTES, _sending.MAX_ROWS)
    assert not too_large
    assert [read_table(data).to_pylist() for _, data in pieces] == [
        [{"door": "north", "opened_s": 1.5}, {"door": None, "opened_s": 2.0}]]


def test_what_is_no_frame_is_refused_with_what_is_wrong() -> None:
    with pytest.raises(Invalid, match="no rows"):
        _sending.table_of(object())


def test_many_rows_go_as_several_streams() -> None:
    table = _sending.table_of(pa.table({"n": list(range(120_000))}))
    pieces, _ = write_pieces(table, _sending.MAX_BYTES, _sending.MAX_ROWS)
    assert [rows for rows, _ in pieces] == [50_000, 50_000, 20_000]
