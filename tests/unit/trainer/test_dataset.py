"""Which rows are learnt from, in which order, and who is held out."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from services.trainer.core.dataset import (
    HELD_OUT,
    TRAIN,
    VALIDATION,
    features_of,
    join,
    newest,
    outcomes_of,
    roles,
)
from services.trainer.core.weights import pack, unpack

START = datetime(2026, 1, 1, tzinfo=UTC)
FIELDS = {"x": pa.float64()}


def stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def features(*rows: tuple[str, int, int, float], **more: Any) -> bytes:
    """(event id, seconds, source offset, x)."""
    ids, seconds, offsets, values = zip(*rows, strict=True)
    return stream(pa.table({
        "_event_id": ids, "_occurred_at": pa.array([START + timedelta(seconds=one) for one in seconds],
                                                   pa.timestamp("us", tz="UTC")),
        "_source_offset": pa.array(offsets, pa.int64()), "x": pa.array(values, pa.float64()), **more}))


def outcomes(*rows: tuple[str, float, int]) -> bytes:
    """(event id, label, seconds)."""
    ids, labels, seconds = zip(*rows, strict=True)
    return stream(pa.table({
        "event_id": ids, "entity": ids, "label": labels,
        "label_time": pa.array([START + timedelta(seconds=one) for one in seconds], pa.timestamp("us", tz="UTC"))}))


def joined(feature_segments: list[tuple[int, bytes]], outcome_segments: list[tuple[int, bytes]]) -> list[Any]:
    table = join(features_of(feature_segments, list(FIELDS)), outcomes_of(outcome_segments), FIELDS)
    return [(row["_event_id"], row["x"], row["_label"]) for row in table.to_pylist()]


def test_rows_are_joined_by_event_id_oldest_first_across_partitions() -> None:
    assert joined([(0, features(("b", 2, 0, 2.0), ("d", 4, 1, 4.0))),
                   (1, features(("a", 1, 0, 1.0), ("c", 3, 1, 3.0)))],
                  [(1, outcomes(("d", 40.0, 9), ("a", 10.0, 9))), (0, outcomes(("b", 20.0, 9), ("nobody", 0.0, 9)))]
                  ) == [("a", 1.0, 10.0), ("b", 2.0, 20.0), ("d", 4.0, 40.0)]


def test_the_order_does_not_depend_on_how_rows_were_cut_into_segments() -> None:
    known = [(0, outcomes(("a", 1.0, 0), ("b", 2.0, 0), ("c", 3.0, 0)))]
    whole = [(3, features(("a", 5, 0, 1.0), ("b", 5, 1, 2.0), ("c", 5, 2, 3.0)))]
    cut = [(3, features(("c", 5, 2, 3.0))), (3, features(("a", 5, 0, 1.0), ("b", 5, 1, 2.0)))]
    assert joined(whole, known) == joined(cut, known)


def test_rows_and_outcomes_that_come_in_order_join_as_those_that_do_not() -> None:
    rows = [("a", 1, 0, 1.0), ("b", 2, 1, 2.0), ("c", 3, 2, 3.0)]
    known = [("a", 10.0, 9), ("b", 20.0, 9), ("c", 30.0, 9)]
    expected = [("a", 1.0, 10.0), ("b", 2.0, 20.0), ("c", 3.0, 30.0)]
    for some in (rows, rows[::-1]):
        for others in (known, known[::-1], [("a", 5.0, 8), *known]):
            assert joined([(0, features(*some))], [(0, outcomes(*others))]) == expected


def test_a_corrected_label_replaces_the_first() -> None:
    rows = [(0, features(("a", 1, 0, 1.0), ("b", 2, 1, 2.0)))]
    assert [one[2] for one in joined(rows, [(0, outcomes(("a", 1.0, 5), ("b", 1.0, 5), ("a", 7.0, 6)))])] == [7.0, 1.0]
    # The same label time: what was stored later counts.
    assert [one[2] for one in joined(rows, [(0, outcomes(("a", 1.0, 5), ("b", 1.0, 5), ("a", 8.0, 5)))])] == [8.0, 1.0]


def test_of_an_event_stored_twice_the_newest_row_counts() -> None:
    assert joined([(0, features(("a", 1, 0, 1.0), ("b", 2, 1, 5.0), ("a", 3, 2, 9.0)))],
                  [(0, outcomes(("a", 1.0, 0), ("b", 0.0, 0)))]) == [("b", 5.0, 0.0), ("a", 9.0, 1.0)]


def test_rows_written_before_a_field_was_added_lack_it() -> None:
    table = join(features_of([(0, features(("a", 1, 0, 1.0))),
                              (0, features(("b", 2, 1, 2.0), country=pa.array(["us"])))], ["x", "country"]),
                 outcomes_of([(0, outcomes(("a", 1.0, 0), ("b", 0.0, 0)))]), {**FIELDS, "country": pa.string()})
    assert table.column("country").to_pylist() == [None, "us"]


def test_without_features_or_outcomes_there_are_no_rows() -> None:
    assert joined([], []) == []
    assert joined([(0, features(("a", 1, 0, 1.0)))], []) == []


def test_the_newest_rows_are_the_last_ones() -> None:
    rows = pa.table({"n": list(range(10))})
    assert newest(rows, 3).column("n").to_pylist() == [7, 8, 9]
    assert newest(rows, 0).num_rows == newest(rows, 99).num_rows == 10


def test_an_event_keeps_its_role_whatever_surrounds_it() -> None:
    ids = [f"event-{number}" for number in range(2000)]
    alone = dict(zip(ids, roles(ids, 0.2).tolist(), strict=True))
    shuffled = ids[1000:] + ids[:1000]
    assert roles(shuffled, 0.2).tolist() == [alone[one] for one in shuffled]
    counted = np.bincount(list(alone.values()), minlength=3) / len(ids)
    assert counted[HELD_OUT] == pytest.approx(0.2, abs=0.03)
    assert counted[VALIDATION] == pytest.approx(0.08, abs=0.03)
    # A larger share only moves rows into the held-out ones.
    wider = dict(zip(ids, roles(ids, 0.4).tolist(), strict=True))
    assert all(wider[one] == HELD_OUT for one in ids if alone[one] == HELD_OUT)


def test_few_rows_are_all_needed_for_learning() -> None:
    assert set(roles([f"event-{number}" for number in range(60)], 0.2).tolist()) == {TRAIN, HELD_OUT}


def test_weights_are_the_same_bytes_and_never_pickle() -> None:
    arrays: dict[str, Any] = {"b": np.arange(3, dtype=np.float32), "a": np.zeros((2, 2))}
    data = pack(arrays, {"size": float("inf"), "name": "x"})
    assert data == pack(dict(reversed(arrays.items())), {"name": "x", "size": float("inf")})
    found, about = unpack(data)
    assert found["b"].dtype == np.float32
    assert np.array_equal(found["a"], arrays["a"])
    assert about == {"size": float("inf"), "name": "x"}
    with pytest.raises(ValueError, match="plain arrays"):
        pack({"evil": np.array([object()], dtype=object)}, {})
