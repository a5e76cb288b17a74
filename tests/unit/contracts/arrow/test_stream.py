"""Streams of events: read within bounds, and written so that they can be read."""

import random

import pyarrow as pa
import pytest

from lepton.bus.records import partition_for
from lepton.contracts.arrow.entities import partitions_of
from lepton.contracts.arrow.stream import FOREIGN, count_rows, read_table, write_pieces, write_table
from lepton.errors import Invalid

SPARSE = pa.table({"id": [str(number) for number in range(20_000)]} | {
    f"f{number}": pa.nulls(20_000, pa.float64()) for number in range(300)})


def test_what_packs_too_well_to_be_read_is_written_unpacked() -> None:
    packed = write_table(SPARSE)
    with pytest.raises(Invalid, match="unpack to more than"):
        read_table(packed)
    assert read_table(write_table(SPARSE, for_events=True)).num_rows == 20_000
    assert len(write_table(SPARSE.select(["id"]), for_events=True)) == len(write_table(SPARSE.select(["id"])))


def test_pieces_hold_every_row_once_in_order_and_name_those_too_large() -> None:
    table = pa.table({"id": ["a", "b", random.Random(1).randbytes(5000).hex(), "c"], "n": [1, 2, 3, 4]})
    pieces, too_large = write_pieces(table, 1500, 3)
    assert [read_table(data).column("n").to_pylist() for _, data in pieces] == [[1], [2], [4]]
    assert [rows for rows, _ in pieces] == [1, 1, 1]
    assert list(too_large) == [2]


def test_a_stream_cut_between_two_batches_is_refused() -> None:
    with pytest.raises(Invalid, match="cut off"):
        read_table(write_table(pa.table({"a": [1]}))[:-8])


def test_more_rows_or_bytes_than_so_few_bytes_can_mean_are_refused() -> None:
    with pytest.raises(Invalid, match="rows"):
        read_table(write_table(pa.table({"a": pa.nulls(2000)})))
    assert FOREIGN.rows_for(10) == 1024
    assert FOREIGN.bytes_for(10**9) == 64 * 1024 * 1024


def test_rows_of_what_is_not_read_are_counted_where_it_says_how_many() -> None:
    assert count_rows(write_table(pa.table({"a": [1, 2, 3]}))) == 3
    assert count_rows(b"nothing of the kind") == 1


def test_a_column_of_entities_is_hashed_as_each_alone_would_be() -> None:
    names = ["", "a", "ab", "abc", "abcd", "customer-7", "客户", "x" * 256]
    for count in (1, 2, 7, 12):
        column = pa.array(["skipped", *names])[1:]
        assert partitions_of(column, count).tolist() == [partition_for(name.encode(), count) for name in names]
