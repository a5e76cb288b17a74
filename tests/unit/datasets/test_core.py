"""Arithmetic of data sets: splits, cuts by time, statistics past what is kept exactly, and which label counts."""

import hashlib
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lepton.contracts.features import ENTITY, EVENT_ID, OCCURRED_AT, SOURCE_OFFSET
from lepton.errors import Invalid
from services.gateway.core.datasets import profile as statistics
from services.gateway.core.datasets import split as splitting
from services.gateway.core.datasets.profile import Profile
from services.gateway.core.datasets.split import PARTS, Split, TimeCuts, times_of
from services.gateway.flow.datasets.known import KnownLabels

TIME = pa.timestamp("us", tz="UTC")


def rows(count: int, entities: int = 10) -> pa.Table:
    return pa.table({
        EVENT_ID: [f"sale-{one}" for one in range(count)], ENTITY: [f"buyer-{one % entities}" for one in range(count)],
        OCCURRED_AT: pa.array(range(count), pa.int64()).cast(TIME),
        SOURCE_OFFSET: pa.array(range(count), pa.int64()),
        "price": pa.array(np.random.default_rng(7).normal(50, 10, count)),
        "name": [f"name {one}" for one in range(count)]})


@given(st.lists(st.text(min_size=1), min_size=1, max_size=50), st.integers(0, 2**63 - 1))
def test_a_row_has_one_part_that_anybody_can_compute(ids: list[str], seed: int) -> None:
    table = pa.table({EVENT_ID: ids, ENTITY: ids})
    parts = Split("event", seed, (0.5, 0.25, 0.25)).parts(table).tolist()
    for event_id, part in zip(ids, parts, strict=True):
        point = int.from_bytes(hashlib.sha256(f"{seed}:{event_id}".encode()).digest()[:8], "big") / 2**64
        assert PARTS[part] == ("train" if point < 0.5 else "validation" if point < 0.75 else "test")
    assert Split("entity", seed, (0.5, 0.25, 0.25)).parts(table).tolist() == parts


def test_shares_are_kept_among_many() -> None:
    counts = np.bincount(Split(seed=5, shares=(0.7, 0.2, 0.1)).parts(rows(20_000)), minlength=3) / 20_000
    assert counts == pytest.approx([0.7, 0.2, 0.1], abs=0.01)
    assert np.bincount(Split(shares=(1, 0, 0)).parts(rows(500)), minlength=3).tolist() == [500, 0, 0]


@given(st.lists(st.integers(0, 10**15), min_size=1, max_size=200))
def test_cuts_by_time_do_not_depend_on_the_order_of_rows(times: list[int]) -> None:
    def cuts(in_order: list[int], step: int) -> tuple[int, int]:
        found = TimeCuts()
        for start in range(0, len(in_order), step):
            found.add(np.array(in_order[start:start + step], np.int64))
        return found.cuts((0.5, 0.25, 0.25))

    shuffled = sorted(times, key=lambda one: hashlib.sha256(str(one).encode()).digest())
    bins = splitting._MAX_BINS
    splitting._MAX_BINS = 16
    try:
        first, second = cuts(times, 7)
        assert (first, second) == cuts(shuffled, 3)
    finally:
        splitting._MAX_BINS = bins
    assert first <= second
    parts = Split("time", 0, (0.5, 0.25, 0.25), (first, second)).parts(pa.table({
        OCCURRED_AT: pa.array(times, pa.int64()).cast(TIME)}))
    assert [int(part) for part in parts] == [(one >= first) + (one >= second) for one in times]


def test_cuts_by_time_meet_the_shares() -> None:
    found = TimeCuts()
    found.add(times_of(rows(1000)))
    assert found.cuts((0.6, 0.3, 0.1)) == (600, 900)
    assert TimeCuts().cuts((0.6, 0.3, 0.1)) == (0, 0)


def test_a_split_by_time_knows_its_cuts() -> None:
    with pytest.raises(ValueError, match="cuts"):
        Split("time").parts(rows(3))
    with pytest.raises(Invalid, match="add up to 1"):
        Split(shares=(0.5, 0.5, 0.5))


def test_statistics_past_the_bounds_are_near_and_say_that_they_are_estimates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "SAMPLE_VALUES", 4_000)
    monkeypatch.setattr(statistics, "MOST_KEPT", 2_000)
    table = rows(30_000)
    whole, pieces = (Profile(table.schema, ["price", "name"]) for _ in range(2))
    whole.add(table, 0)
    for start in range(0, 30_000, 1_000):
        pieces.add(table.slice(start, 1_000), 0)
    told, values = pieces.told(), table.column("price").to_numpy()
    price = told["price"]
    assert (price["mean"], price["std"]) == pytest.approx((values.mean(), values.std()))
    assert (price["min"], price["max"]) == (values.min(), values.max())
    assert not price["quantiles_exact"] and price["quantiles"]["0.5"] == pytest.approx(np.median(values), abs=1.5)
    assert not price["distinct_exact"] and price["distinct"] == pytest.approx(30_000, rel=0.06)
    assert not told["name"]["distinct_exact"] and told["name"]["distinct"] == pytest.approx(30_000, rel=0.06)
    assert not told["name"]["top_exact"] and len(told["name"]["top"]) == statistics.TOP
    assert whole.told()["price"]["quantiles"] == price["quantiles"], "a sample that depends on how rows were cut"
    assert whole.told()["price"]["distinct"] == price["distinct"]


def test_fields_of_every_type_have_statistics() -> None:
    table = pa.table({
        SOURCE_OFFSET: pa.array([0, 1, 2], pa.int64()), "flag": [True, None, True],
        "when": pa.array([0, None, 2_000_000], pa.int64()).cast(TIME), "vector": pa.array([[1.0, 2.0], None, [3.0]]),
        "image": pa.array([b"abc", None, b"a"], pa.binary()), "none": pa.array([None] * 3, pa.float64())})
    made = Profile(table.schema, ["flag", "when", "vector", "image", "none"])
    made.add(table, 0)
    told = made.told()
    assert told["flag"]["top"] == [{"value": True, "count": 2}] and told["flag"]["missing"] == 1
    assert told["when"]["max"] == "1970-01-01T00:00:02+00:00"
    assert (told["vector"]["length_mean"], told["image"]["length_max"]) == (1.5, 3)
    assert told["none"] == {"type": "double", "rows": 3, "missing": 3}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5), st.booleans()), max_size=30))
def test_the_newest_label_counts_and_of_equal_ones_the_later(outcomes: list[tuple[str, int, bool]]) -> None:
    expected: dict[str, tuple[int, bool]] = {}
    for event_id, at, label in outcomes:
        if event_id not in expected or at >= expected[event_id][0]:
            expected[event_id] = (at, label)
    with KnownLabels(pa.bool_()) as known:
        for event_id, at, label in outcomes:
            known.add(pa.table({"event_id": [event_id], "label": [label],
                                "label_time": pa.array([at], pa.int64()).cast(TIME)}))
        labels, times = known.of(["a", "b", "c", "a"])
    found = [None if label is None else (round((at - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1e6), label)
             for label, at in zip(labels.to_pylist(), times.to_pylist(), strict=True)]
    assert found == [expected.get(one) for one in ("a", "b", "c", "a")]


def test_labels_after_the_cut_and_of_other_types_are_told_apart() -> None:
    for kind, values in ((pa.float64(), [1.5, 2.5]), (pa.string(), ["x", "y"])):
        with KnownLabels(kind) as known:
            known.add(pa.table({"event_id": ["a", "a"], "label": pa.array(values, kind),
                                "label_time": pa.array([1, 9], pa.int64()).cast(TIME)}), until_us=5)
            assert known.of(["a", "b"])[0].to_pylist() == [values[0], None]
