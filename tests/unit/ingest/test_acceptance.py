"""A batch becomes rows, duplicates and rejections; each event is one of them, once."""

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lepton.contracts import features
from lepton.contracts.pb.models_pb2 import FieldStatistics, ModelManifest
from lepton.contracts.topics import Topic
from services.ingest.core.acceptance import Acceptance
from services.ingest.core.clean.past import Past
from services.ingest.core.clean.policies import bounds_of
from services.ingest.core.judged import Accepted
from tests.harness import examples
from tests.unit.ingest.samples import order, pipeline, record, records

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NOBODY = frozenset[str]()
OUTLIERS = "clean: {outliers: {method: iqr, action: %s}}\n"
BOUNDS = {"price": (0.0, 10.0), "items": (1.0, 5.0)}


def judge(*values: Any, acceptance: Acceptance | None = None, past: Past | None = None, **options: Any) -> Accepted:
    acceptance = acceptance or Acceptance(pipeline(), 3)
    return acceptance.judge(records(*values), past or Past.of(pipeline()), options.get("bounds", {}),
                            options.get("out", NOBODY))


def test_accepted_rows_have_the_layout_of_features() -> None:
    found = judge(order(1, items=3, country="us"), order(2, weight=0.5, member=False))
    assert found.batch is not None
    assert found.batch.schema.equals(features.features_schema(pipeline(), 3), check_metadata=True)
    rows = features.decode_batch(features.encode_batch(found.batch)).to_pylist()
    assert rows[0] == {
        "_event_id": "o-1", "_entity": "c-1", "_occurred_at": datetime(2026, 6, 1, 12, tzinfo=UTC),
        "_source": "unknown", "_traceparent": None, "_source_offset": 0, "_outliers": [], "_repairs": None,
        "price": 1.0, "weight": None, "items": 3, "member": None, "country": "us", "note": None}
    assert rows[1]["_source_offset"] == 1
    assert (rows[1]["weight"], rows[1]["member"]) == (0.5, False)


def test_a_batch_of_only_bad_events_has_no_rows() -> None:
    found = judge(b"x", order(1, price="1"))
    assert found.batch is None
    assert [rejection.position for rejection in found.rejections] == [0, 1]
    assert found.plan.records == []


def test_duplicates_are_counted_and_leave_no_row() -> None:
    past = Past.of(pipeline())
    acceptance = Acceptance(pipeline(), 1)
    first = judge(order(1), order(2), order(1), acceptance=acceptance, past=past)
    assert first.batch is not None
    assert first.batch.column("_event_id").to_pylist() == ["o-1", "o-2"]
    assert (first.tally.accepted, first.tally.duplicates) == (2, 1)
    past.seen.apply(first.plan)
    second = judge(order(2), order(1), acceptance=acceptance, past=past)
    assert second.batch is None
    assert (second.tally.accepted, second.tally.duplicates, second.tally.rejected) == (0, 2, 0)


def test_the_same_id_of_another_entity_is_another_event() -> None:
    found = judge(order(1), order(1, customer="other"))
    assert found.tally.accepted == 2


def test_a_rejected_event_may_come_again_corrected() -> None:
    past = Past.of(pipeline())
    bad = judge(order(1, price=-1), past=past)
    past.seen.apply(bad.plan)
    assert judge(order(1), past=past).tally.accepted == 1


def test_rows_without_a_dropped_field_are_rejected() -> None:
    acceptance = Acceptance(pipeline(more="clean: {missing: {items: drop, weight: drop}}\n"), 1)
    found = judge(order(1, items=1, weight=1), order(2), order(3, items=1), acceptance=acceptance)
    assert [(one.position, one.code, one.field) for one in found.rejections] == [
        (1, "missing", "weight"), (2, "missing", "weight")]
    assert found.tally.accepted == 1
    assert found.tally.fields["weight"].invalid == 2


def test_outliers_are_flagged_by_the_champions_bounds() -> None:
    acceptance = Acceptance(pipeline(more=OUTLIERS % "keep"), 1)
    found = judge(order(1, price=10, items=5), order(2, price=11), order(3, price=0.5, items=6),
                  order(4, price=20, items=0), acceptance=acceptance, bounds=BOUNDS)
    assert found.batch is not None
    assert found.batch.column("_outliers").to_pylist() == [[], [0], [2], [0, 2]]
    assert found.batch.column("price").to_pylist() == [10, 11, 0.5, 20]
    assert (found.tally.fields["price"].outliers, found.tally.fields["items"].outliers) == (2, 2)
    assert found.tally.sources["unknown"].outliers == 3


def test_without_method_or_champion_nothing_is_outlying() -> None:
    for acceptance, bounds in ((Acceptance(pipeline(), 1), BOUNDS),
                               (Acceptance(pipeline(more=OUTLIERS % "keep"), 1), {})):
        found = judge(order(1, price=999), acceptance=acceptance, bounds=bounds)
        assert found.batch is not None
        assert found.batch.column("_outliers").to_pylist() == [[]]


def test_outliers_are_rejected_where_the_pipeline_quarantines_them() -> None:
    clean = "clean: {missing: {weight: drop}, outliers: {method: iqr, action: quarantine}}\n"
    found = judge(order(1, weight=1), order(2, weight=1, price=11), order(3, price=11),
                  acceptance=Acceptance(pipeline(more=clean), 1), bounds=BOUNDS)
    assert [(one.position, one.code, one.field) for one in found.rejections] == [
        (1, "outlier", "price"), (2, "missing", "weight")]
    assert found.batch is not None
    assert found.batch.column("_outliers").to_pylist() == [[]]
    assert (found.tally.fields["price"].outliers, found.tally.sources["unknown"].rejected) == (1, 2)


def test_bounds_come_from_statistics_that_have_them() -> None:
    manifest = ModelManifest(statistics=[FieldStatistics(field="a", outlier_low=1, outlier_high=2),
                                         FieldStatistics(field="b"), FieldStatistics(field="c", outlier_low=1)])
    assert bounds_of(manifest) == {"a": (1.0, 2.0)}


def test_labels_come_with_the_event_where_the_pipeline_says_so() -> None:
    acceptance = Acceptance(pipeline(("type: bool}\n  dedupe", "type: bool, arrives: with_event}\n  dedupe")), 4)
    found = judge(order(1, bought=True), order(2), order(3, bought="yes"), order(4, bought=False, at=1.5),
                  acceptance=acceptance)
    assert [(one.event_id, one.entity, one.flag, one.with_event, one.spec_version) for one in found.outcomes] == [
        ("o-1", "c-1", True, True, 4), ("o-4", "c-4", False, True, 4)]
    assert found.outcomes[0].label_time.ToJsonString() == "2026-06-01T12:00:00Z"
    assert found.outcomes[1].label_time.ToMicroseconds() == 1_500_000
    assert [(one.position, one.field) for one in found.rejections] == [(2, "bought")]


def test_a_label_among_the_fields_is_no_feature_and_not_read_when_it_comes_later() -> None:
    later = Acceptance(pipeline(("label: {field: bought, type: bool}", "label: {field: member}")), 1)
    found = judge(order(1, member="what"), acceptance=later)
    assert found.batch is not None
    assert "member" not in found.batch.schema.names
    assert found.outcomes == []
    now = Acceptance(pipeline(("label: {field: bought, type: bool}", "label: {field: member, arrives: with_event}")), 1)
    assert [one.flag for one in judge(order(1, member=True), acceptance=now).outcomes] == [True]


def test_a_pipeline_without_label_accepts_too() -> None:
    acceptance = Acceptance(pipeline(("  label: {field: bought, type: bool}\n", "")), 1)
    assert acceptance.labels is None
    assert judge(order(1), acceptance=acceptance).tally.accepted == 1


def test_only_sampled_traces_are_followed() -> None:
    def traced(number: int, trace: str) -> Any:
        return record(order(number), number, (("traceparent", trace.encode()),))

    unsampled, zero = TRACE[:-2] + "00", TRACE.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32)
    events = [traced(0, TRACE), traced(1, unsampled), record(order(2), 2), traced(3, "junk"), traced(4, zero)]
    acceptance = Acceptance(pipeline(), 1)
    assert acceptance.judge(events, Past.of(pipeline()), {}, NOBODY).traces == [TRACE, None, None, None, None]
    assert acceptance.judge(events[1:], Past.of(pipeline()), {}, NOBODY).traces is None
    assert acceptance.judge(events[2:3], Past.of(pipeline()), {}, NOBODY).traces is None


def test_counts_are_kept_by_source_and_field() -> None:
    web, till = (("ce_source", b"web"),), (("ce_source", b"till"),)
    events = [record(order(1, items=1), 0, web), record(order(2, items=3, weight=2), 1, till), record(b"x", 2, till),
              record(order(3, items="x"), 3, till), record(order(1, items=1), 4, web), record(order(5), 5, web)]
    found = Acceptance(pipeline(), 1).judge(events, Past.of(pipeline()), {}, frozenset({"pos"}))
    tally = found.tally
    assert (tally.accepted, tally.rejected, tally.duplicates, tally.quarantined) == (3, 2, 1, 0)
    items = tally.fields["items"]
    assert (items.present, items.missing, items.invalid, items.mean, items.low, items.high) == (2, 1, 1, 2.0, 1.0, 3.0)
    assert (tally.sources["web"].accepted, tally.sources["web"].missing) == (2, 2)
    assert (tally.sources["till"].accepted, tally.sources["till"].rejected, tally.sources["till"].missing) == (1, 2, 1)


def test_every_example_gives_the_row_its_features_example_promises() -> None:
    acceptance = Acceptance(examples.pipeline(), 1)
    events = [record(one.value, offset, one.headers) for offset, one in enumerate(examples.valid(Topic.EVENTS))]
    found = acceptance.judge(events, Past.of(examples.pipeline()), {}, NOBODY)
    assert found.rejections == []
    assert found.batch is not None
    # All of them hold one event each, but for the stream of two.
    assert found.batch.num_rows == len(events) + 1
    found.batch.validate(full=True)


VALUES: st.SearchStrategy[Any] = st.sampled_from([None, 1, 1.5, "x", "us", True, -1, 10**30, [], {}])
EVENTS = st.one_of(
    st.binary(max_size=20),
    st.fixed_dictionaries({}, optional=dict.fromkeys(
        ("order", "customer", "at", "price", "weight", "items", "member", "country", "note"), VALUES)),
    st.integers(0, 5).map(order))


@given(st.lists(st.lists(EVENTS, max_size=12), max_size=4), st.sampled_from(["keep", "quarantine"]))
def test_every_event_is_accepted_rejected_or_a_duplicate(batches: list[list[Any]], action: str) -> None:
    acceptance, past = Acceptance(pipeline(more=OUTLIERS % action), 1), Past.of(pipeline())
    keys: set[tuple[str, str]] = set()
    for events in batches:
        found = acceptance.judge(records(*events), past, BOUNDS, NOBODY)
        rows = found.batch.to_pylist() if found.batch is not None else []
        assert len(rows) == found.tally.accepted
        assert found.tally.accepted + found.tally.duplicates + len(found.rejections) == len(events)
        assert found.tally.rejected == len(found.rejections)
        places = [row["_source_offset"] for row in rows] + [one.position for one in found.rejections]
        assert len(set(places)) == len(places)
        for row in rows:
            key = (row["_event_id"], row["_entity"])
            assert key not in keys
            keys.add(key)
        if found.batch is not None:
            found.batch.validate(full=True)
            assert isinstance(found.batch, pa.RecordBatch)
        past.seen.apply(found.plan)


@pytest.mark.parametrize("count", [0, 1])
def test_an_empty_or_single_batch_is_no_special_case(count: int) -> None:
    found = judge(*[order(number) for number in range(count)])
    assert found.tally.accepted == count
    assert (found.batch is None) == (count == 0)
