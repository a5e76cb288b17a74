"""The layout every features batch has, and what is refused as one."""

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from lepton.contracts import features
from lepton.contracts.pb.outcomes_pb2 import Outcome
from lepton.contracts.pipeline import Pipeline, parse
from lepton.errors import Invalid

TEXT = """\
apiVersion: lepton/v1
kind: Pipeline
metadata: {name: shop}
events:
  fields:
    price: {type: float}
    items: {type: int}
    bought: {type: bool}
    member: {type: bool}
    country: {type: category}
    note: {type: text}
  label: {field: bought}
"""


@pytest.fixture
def pipeline() -> Pipeline:
    return parse(TEXT)


def row(**values: Any) -> dict[str, Any]:
    return {"_event_id": "1", "_entity": "e", "_occurred_at": datetime(2026, 1, 1, tzinfo=UTC), "_source": "s",
            "_traceparent": None, "_source_offset": 4, "_outliers": [0], "_repairs": None, "price": 1.5, "items": None,
            "member": True, "country": "us", "note": None} | values


def batch(pipeline: Pipeline, *rows: dict[str, Any]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(list(rows), schema=features.features_schema(pipeline, 3))


def test_columns_are_ours_then_the_fields_without_the_label(pipeline: Pipeline) -> None:
    schema = features.features_schema(pipeline, 3)
    assert schema.names == ["_event_id", "_entity", "_occurred_at", "_source", "_traceparent", "_source_offset",
                            "_outliers", "_repairs", "price", "items", "member", "country", "note"]
    assert [str(schema.field(name).type) for name in pipeline.fields] == [
        "double", "int64", "bool", "string", "string"]
    assert str(schema.field("_occurred_at").type) == "timestamp[us, tz=UTC]"
    assert schema.metadata == {b"pipeline": b"shop", b"spec_version": b"3",
                               b"input_schema_digest": pipeline.input_schema_digest().encode()}


def test_a_batch_comes_back_as_it_was(pipeline: Pipeline) -> None:
    sent = batch(pipeline, row(), row(_event_id="2", price=None))
    back = features.decode_batch(features.encode_batch(sent))
    assert back.equals(sent)
    assert features.spec_version(back.schema) == 3


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff" * 64])
def test_other_bytes_are_invalid(data: bytes) -> None:
    with pytest.raises(Invalid, match="Arrow"):
        features.decode_batch(data)


def test_a_cut_stream_is_invalid(pipeline: Pipeline) -> None:
    data = features.encode_batch(batch(pipeline, row()))
    with pytest.raises(Invalid):
        features.decode_batch(data[:len(data) // 2])


def test_more_than_one_batch_is_invalid(pipeline: Pipeline) -> None:
    sink = pa.BufferOutputStream()
    one = batch(pipeline, row())
    with pa.ipc.new_stream(sink, one.schema) as writer:
        writer.write_batch(one)
        writer.write_batch(one)
    with pytest.raises(Invalid, match="one batch"):
        features.decode_batch(sink.getvalue().to_pybytes())


def test_a_batch_without_our_columns_is_invalid_and_says_which() -> None:
    other = pa.RecordBatch.from_pylist([{"_event_id": "1"}])
    with pytest.raises(Invalid) as caught:
        features.decode_batch(features.encode_batch(other))
    assert caught.value.field == "_entity"


def test_a_segment_comes_back_and_other_bytes_are_invalid(pipeline: Pipeline) -> None:
    table = pa.Table.from_batches([batch(pipeline, row()), batch(pipeline, row(_event_id="2"))])
    data = features.encode_table(table)
    assert features.decode_table(data).equals(table)
    assert features.decode_table(features.encode_batch(batch(pipeline, row()))).num_rows == 1
    for damage in (b"", b"{}", data[:len(data) // 2]):
        with pytest.raises(Invalid, match="segment"):
            features.decode_table(damage)


def test_a_schema_without_version_is_invalid() -> None:
    with pytest.raises(Invalid, match="no spec version"):
        features.spec_version(pa.schema([]))


def test_outcomes_become_a_table_by_label_type(pipeline: Pipeline) -> None:
    outcome = Outcome(event_id="1", entity="e", flag=True)
    outcome.label_time.FromSeconds(5)
    table = features.outcome_table(pipeline, [outcome])
    assert table.to_pylist() == [{"event_id": "1", "entity": "e", "label": True,
                                  "label_time": datetime(1970, 1, 1, 0, 0, 5, tzinfo=UTC)}]
    assert features.outcome_table(pipeline, []).num_rows == 0


@pytest.mark.parametrize(("kind", "outcome", "arrow"), [
    ("float", Outcome(event_id="1", number=1.5), "double"),
    ("int", Outcome(event_id="1", number=2), "double"),
    ("category", Outcome(event_id="1", category="x"), "string"),
])
def test_label_column_has_the_type_of_the_label(kind: str, outcome: Outcome, arrow: str) -> None:
    pipeline = parse(TEXT.replace("label: {field: bought}", f"label: {{field: y, type: {kind}}}"))
    assert str(features.outcome_table(pipeline, [outcome]).schema.field("label").type) == arrow


def test_a_label_of_another_type_is_invalid(pipeline: Pipeline) -> None:
    with pytest.raises(Invalid, match="is no flag"):
        features.outcome_table(pipeline, [Outcome(event_id="1", number=1)])


def test_a_pipeline_without_label_has_no_outcomes() -> None:
    pipeline = parse(TEXT.replace("  label: {field: bought}\n", ""))
    with pytest.raises(Invalid, match="no label"):
        features.outcome_schema(pipeline)
