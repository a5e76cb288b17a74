"""Named fields, from a request or a features batch, become the same arrays."""

import math
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from google.protobuf import json_format, struct_pb2
from hypothesis import given
from hypothesis import strategies as st

from lepton.errors import Invalid
from services.predictor.core.rows import from_structs
from services.predictor.core.signature import Signature, of_manifest
from services.predictor.core.streamed.fields import from_batch
from tests.harness.onnx_models import Linear
from tests.unit.predictor.conftest import FIELDS

ARROW = {"amount": pa.float64(), "count": pa.int64(), "known": pa.bool_(), "country": pa.string()}


def signature(*, masked: bool = True, fields: dict[str, str] | None = None) -> Signature:
    linear = Linear(fields or FIELDS, masked=masked)
    return of_manifest(linear.manifest(linear.build()))


def structs(*rows: dict[str, Any]) -> list[struct_pb2.Struct]:
    return [json_format.ParseDict(row, struct_pb2.Struct()) for row in rows]


def batch(*rows: dict[str, Any]) -> pa.RecordBatch:
    ours = {"_event_id": pa.array([str(i) for i in range(len(rows))]),
            "_occurred_at": pa.array([datetime(2026, 1, 1, tzinfo=UTC)] * len(rows))}
    return pa.record_batch(ours | {name: pa.array([row.get(name) for row in rows], kind)
                                   for name, kind in ARROW.items()})


ROW = st.fixed_dictionaries({}, optional={
    "amount": st.floats(allow_nan=False, allow_infinity=False) | st.none(),
    "count": st.integers(-2**53, 2**53) | st.none(),
    "known": st.booleans() | st.none(),
    "country": st.text() | st.none(),
})


@given(st.lists(ROW, min_size=1, max_size=5))
def test_a_request_and_a_features_batch_of_the_same_rows_feed_the_model_the_same(rows: list[dict[str, Any]]) -> None:
    asked = from_structs(structs(*rows), signature(), 100)
    streamed = from_batch(batch(*rows), signature())
    assert asked.rows == streamed.rows == len(rows)
    assert asked.arrays.keys() == streamed.arrays.keys()
    for name in asked.arrays:
        assert asked.arrays[name].dtype == streamed.arrays[name].dtype
        assert asked.arrays[name].tobytes() == streamed.arrays[name].tobytes() or (
            asked.arrays[name].tolist() == streamed.arrays[name].tolist())
    assert asked.arrays["_missing"].tolist() == [[row.get(name) is None for name in FIELDS] for row in rows]


def test_numbers_without_nulls_are_views_of_the_batch() -> None:
    full = batch({"amount": 1.5, "count": 2, "known": True, "country": "us"})
    feed = from_batch(full, signature())
    address = full.column(full.schema.get_field_index("amount")).buffers()[1].address
    assert feed.arrays["amount"].__array_interface__["data"][0] == address


def test_a_slice_of_a_batch_gives_the_rows_of_the_slice() -> None:
    rows = [{"amount": float(i), "count": i, "known": i % 2 == 0, "country": f"c{i}" if i % 3 else None}
            for i in range(20)]
    feed = from_batch(batch(*rows).slice(7, 5), signature())
    assert feed.arrays["amount"].tolist() == [7.0, 8.0, 9.0, 10.0, 11.0]
    assert feed.arrays["known"].tolist() == [False, True, False, True, False]
    assert feed.arrays["country"].tolist() == ["c7", "c8", "", "c10", "c11"]


def test_a_column_that_is_not_there_is_missing_throughout() -> None:
    feed = from_batch(batch({"amount": 1.0, "known": True}).drop_columns(["country", "amount"]), signature())
    assert feed.arrays["_missing"].tolist() == [[True, True, False, True]]
    assert math.isnan(feed.arrays["amount"][0])


def test_a_column_of_another_type_is_invalid() -> None:
    other = pa.record_batch({"amount": pa.array(["1.0"])})
    with pytest.raises(Invalid, match="the column is string, the model takes FP64"):
        from_batch(other, signature(fields={"amount": "float"}))


def test_without_a_mask_only_floats_may_be_missing() -> None:
    plain = signature(masked=False)
    full = {"amount": None, "count": 1, "known": True, "country": "us"}
    for feed in (from_structs(structs(full), plain, 9), from_batch(batch(full), plain)):
        assert math.isnan(feed.arrays["amount"][0])
        assert "_missing" not in feed.arrays
    with pytest.raises(Invalid, match="cannot do without `count`"):
        from_structs(structs(full | {"count": None}), plain, 9)
    with pytest.raises(Invalid, match="cannot do without `count`"):
        from_batch(batch(full | {"count": None}), plain)


@pytest.mark.parametrize(("row", "field", "said"), [
    ({"amuont": 1.0}, "amuont", "did you mean `amount`"),
    ({"_missing": [True]}, "_missing", "takes no field"),
    ({"zzz": 1.0}, "zzz", "send amount, count, known, country"),
    ({"amount": "1.0"}, "amount", "send a number"),
    ({"amount": True}, "amount", "send a number"),
    ({"count": 1.5}, "count", "send a whole number"),
    ({"count": 2.0**60}, "count", "send a whole number"),
    ({"count": True}, "count", "send a number"),
    ({"known": 1}, "known", "send true or false"),
    ({"country": 1}, "country", "send text"),
    ({"country": ["us"]}, "country", "send text"),
    ({"country": {"code": "us"}}, "country", "send text"),
])
def test_a_value_that_does_not_fit_is_invalid_with_field_and_row(row: dict[str, Any], field: str, said: str) -> None:
    with pytest.raises(Invalid) as raised:
        from_structs(structs({}, row), signature(), 9)
    assert said in str(raised.value)
    assert (raised.value.field, raised.value.place) == (field, "row 1")


@pytest.mark.parametrize("count", [0, 10])
def test_rows_are_bounded(count: int) -> None:
    with pytest.raises(Invalid, match="1 to 9"):
        from_structs(structs(*[{}] * count), signature(), 9)


def test_a_field_of_rows_and_columns_goes_through_tensors() -> None:
    linear = Linear({"amount": "float"})
    manifest = linear.manifest(linear.build())
    manifest.inputs[0].shape.extend((3, 4))
    with pytest.raises(Invalid, match=r"takes .* values"):
        from_structs(structs({"amount": 1.0}), of_manifest(manifest), 9)


def test_an_infinite_number_is_passed_on() -> None:
    row = struct_pb2.Struct()
    row.fields["amount"].number_value = math.inf
    assert np.isposinf(from_structs([row], signature(), 9).arrays["amount"][0])
