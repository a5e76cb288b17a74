"""Fields of several numbers: the same from a request as from a features batch, and refused with place and remedy."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from google.protobuf import json_format, struct_pb2
from hypothesis import given
from hypothesis import strategies as st

from lepton.contracts.pb import models_pb2
from lepton.errors import Invalid, Refused
from services.predictor.core.rows import from_structs
from services.predictor.core.signature import of_manifest
from services.predictor.core.streamed.fields import from_batch

MANIFEST = models_pb2.ModelManifest(
    inputs=[models_pb2.TensorSpec(name="pixels", datatype="FP32", shape=[-1, 3]),
            models_pb2.TensorSpec(name="steps", datatype="FP64", shape=[-1, 4], padded=True),
            models_pb2.TensorSpec(name="_missing", datatype="BOOL", shape=[-1, 2], optional=True)],
    outputs=[models_pb2.TensorSpec(name="prediction", datatype="FP32", shape=[-1])])
SIGNATURE = of_manifest(MANIFEST)
TYPES = {"pixels": pa.list_(pa.float32()), "steps": pa.list_(pa.float64())}

NUMBER = st.floats(-(2.0**90), 2.0**90, width=32)
ROW = st.fixed_dictionaries({}, optional={"pixels": st.none() | st.lists(NUMBER, min_size=3, max_size=3),
                                          "steps": st.none() | st.lists(NUMBER, max_size=4)})


def structs(*rows: dict[str, Any]) -> list[struct_pb2.Struct]:
    return [json_format.ParseDict(row, struct_pb2.Struct()) for row in rows]


def batch(*rows: dict[str, Any]) -> pa.RecordBatch:
    return pa.record_batch({name: pa.array([row.get(name) for row in rows], kind) for name, kind in TYPES.items()})


@given(st.lists(ROW, min_size=1, max_size=5))
def test_a_request_and_a_features_batch_of_the_same_lists_feed_the_model_the_same(rows: list[dict[str, Any]]) -> None:
    asked, streamed = from_structs(structs(*rows), SIGNATURE, 100), from_batch(batch(*rows), SIGNATURE)
    for name in ("pixels", "steps", "_missing"):
        assert asked.arrays[name].dtype == streamed.arrays[name].dtype
        np.testing.assert_array_equal(asked.arrays[name], streamed.arrays[name])
    assert asked.arrays["_missing"].tolist() == [[row.get(name) is None for name in TYPES] for row in rows]


def test_a_short_sequence_is_filled_up_with_what_is_no_number() -> None:
    feed = from_structs(structs({"pixels": [1, 2, 3], "steps": [5.5]}), SIGNATURE, 9)
    assert feed.arrays["pixels"].tolist() == [[1.0, 2.0, 3.0]]
    assert feed.arrays["steps"][0, 0] == 5.5
    assert np.isnan(feed.arrays["steps"][0, 1:]).all()


@pytest.mark.parametrize(("row", "said", "remedy"), [
    ({"pixels": [1, 2]}, "has 2 numbers", "a list of 3 numbers"),
    ({"pixels": [1, 2, 3, 4]}, "has 4 numbers", "a list of 3 numbers"),
    ({"pixels": []}, "has 0 numbers", "a list of 3 numbers"),
    ({"pixels": 1}, "no list", "a list of 3 numbers"),
    ({"pixels": "abc"}, "no list", "a list of 3 numbers"),
    ({"pixels": {"a": 1}}, "no list", "a list of 3 numbers"),
    ({"pixels": [[1, 2, 3], 4, 5]}, "item 0 is no finite FP32", "a list of 3 numbers"),
    ({"pixels": [1, None, 3]}, "item 1 is no finite FP32", "a list of 3 numbers"),
    ({"pixels": [1, 2, 1e39]}, "item 2 is no finite FP32", "a list of 3 numbers"),
    ({"steps": [1, 2, 3, 4, 5]}, "has 5 numbers", "at most 4 numbers"),
    ({"steps": [True]}, "item 0 is no finite FP64", "at most 4 numbers")])
def test_a_list_that_does_not_fit_is_named_with_its_row(row: dict[str, Any], said: str, remedy: str) -> None:
    with pytest.raises(Invalid, match=said) as refused:
        from_structs(structs({}, row), SIGNATURE, 9)
    assert (refused.value.field, refused.value.place) == (next(iter(row)), "row 1")
    assert remedy in (refused.value.remedy or "")


def test_an_infinite_item_is_refused() -> None:
    row = struct_pb2.Struct()
    row.get_or_create_list("pixels").extend([1.0, math.inf, 2.0])
    with pytest.raises(Invalid, match="item 1"):
        from_structs([row], SIGNATURE, 9)


@pytest.mark.parametrize(("name", "column"), [
    ("pixels", pa.array([[1.0, 2.0]], TYPES["pixels"])), ("pixels", pa.array([[1.0] * 4], TYPES["pixels"])),
    ("pixels", pa.array([[1.0] * 3], TYPES["steps"])), ("pixels", pa.array([1.0])),
    ("steps", pa.array([[1.0] * 5], TYPES["steps"]))])
def test_rows_of_another_size_or_type_wait_for_a_model_of_theirs(name: str, column: pa.Array) -> None:
    with pytest.raises(Invalid, match="the model takes") as refused:
        from_batch(pa.record_batch({name: column}), SIGNATURE)
    assert refused.value.field == name
    assert "train a model" in (refused.value.remedy or "")


@pytest.mark.parametrize(("datatype", "shape"), [("INT64", [-1, 4]), ("FP64", [-1]), ("FP64", [-1, -1]),
                                                 ("FP64", [-1, 2, 2])])
def test_only_a_list_of_floating_point_numbers_can_be_padded(datatype: str, shape: list[int]) -> None:
    manifest = models_pb2.ModelManifest()
    manifest.CopyFrom(MANIFEST)
    manifest.inputs[1].datatype, manifest.inputs[1].shape[:] = datatype, shape
    with pytest.raises(Refused, match="padded"):
        of_manifest(manifest)
