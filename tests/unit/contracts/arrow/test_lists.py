"""A column of lists becomes one array, whatever its lists' lengths, nulls and slices."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lepton.contracts.arrow.lists import padded

LISTS = st.lists(st.none() | st.lists(st.none() | st.floats(-9, 9), max_size=6), max_size=8)


@given(LISTS, st.integers(1, 5), st.integers(0, 3))
def test_each_number_stands_at_its_place_and_nothing_else_does(lists: list[list[float | None] | None], length: int,
                                                               skipped: int) -> None:
    array, lengths = padded(pa.array(lists, pa.list_(pa.float64())).slice(skipped), length, np.float64)
    assert array.shape == (len(lists[skipped:]), length)
    for row, count, one in zip(array.tolist(), lengths.tolist(), lists[skipped:], strict=True):
        assert count == len(one or [])
        wanted = [np.nan if number is None else number for number in (one or [])][:length]
        np.testing.assert_array_equal(row, wanted + [np.nan] * (length - len(wanted)))


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64()])
def test_lists_of_one_length_are_seen_where_they_lie(kind: pa.DataType) -> None:
    column = pa.array([[1, 2], [3, 4]], pa.list_(kind))
    array, _ = padded(column, 2, kind.to_pandas_dtype())
    assert array.__array_interface__["data"][0] == column.values.buffers()[1].address
