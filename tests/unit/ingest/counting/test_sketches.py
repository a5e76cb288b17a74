"""Sketches say what the exact figures say, within the bounds they promise, however their values came in."""

import numpy as np
import pyarrow as pa
import pytest
from datasketches import kll_doubles_sketch
from hypothesis import given
from hypothesis import strategies as st

from lepton.contracts.pb.quality_pb2 import FieldQuality
from lepton.errors import Invalid
from services.ingest.core.counting import sketches
from services.ingest.core.counting.sketches import KLL_K, RANKS, SAMPLE_ROWS, Sketch
from tests.harness.loops import LOOPS, looping


def told(sketch: Sketch) -> FieldQuality:
    message = FieldQuality(field="x", present=1)
    sketch.tell(message)
    return message


def merged(*parts: Sketch) -> Sketch:
    whole = Sketch(parts[0].kind)
    for part in parts:
        whole.add(part)
    return whole


@pytest.mark.parametrize("count", [10, 1_000, 30_000, 200_000])
def test_distinct_values_are_told_within_four_sigma(count: int) -> None:
    numbers = np.random.default_rng(count).permutation(np.repeat(np.arange(count, dtype=float) * 0.1, 2))
    whole = merged(*(sketches.of_numbers(part) for part in np.array_split(numbers, 5)))
    # 1.04 / sqrt(2^11) is one sigma of HLL (Flajolet et al. 2007).
    assert told(whole).distinct == pytest.approx(count, rel=4 * 0.023)


def test_quantiles_lie_within_the_rank_error_the_library_promises() -> None:
    numbers = np.random.default_rng(1).lognormal(size=40 * SAMPLE_ROWS)
    whole = merged(*(sketches.of_numbers(part) for part in np.array_split(numbers, 40)))
    assert whole.seen == len(numbers)
    ranks = np.searchsorted(np.sort(numbers), list(told(whole).quantiles)) / len(numbers)
    error = kll_doubles_sketch.get_normalized_rank_error(KLL_K, False)
    assert np.abs(ranks - np.array(RANKS)).max() <= 2 * error


def test_a_small_batch_is_told_exactly() -> None:
    message = told(sketches.of_numbers(np.arange(101, dtype=float)))
    assert list(message.quantiles) == [1, 5, 25, 50, 75, 95, 99]
    assert sum(message.histogram.counts) == pytest.approx(101)
    assert len(message.histogram.edges) == len(message.histogram.counts) + 1
    assert (message.histogram.edges[0], message.histogram.edges[-1]) == (0, 100)


def test_a_large_batch_is_sampled_evenly_and_says_so() -> None:
    message = told(sketches.of_numbers(np.arange(4 * SAMPLE_ROWS, dtype=float)))
    assert message.sketched == SAMPLE_ROWS
    assert message.quantiles[3] == pytest.approx(2 * SAMPLE_ROWS, rel=0.1)


def test_what_is_not_finite_has_no_place_in_a_histogram() -> None:
    message = told(sketches.of_numbers(np.array([1.0, np.inf, -np.inf, 3.0])))
    assert message.sketched == 2
    assert (message.histogram.edges[0], message.histogram.edges[-1]) == (1.0, 3.0)
    assert not told(sketches.of_numbers(np.array([np.inf]))).quantiles


def test_one_value_alone_makes_one_bin() -> None:
    histogram = told(sketches.of_numbers(np.full(7, 2.5))).histogram
    assert (list(histogram.edges), list(histogram.counts)) == ([2.5, 2.5], [7.0])


def test_frequent_values_are_counted_and_text_is_not_kept() -> None:
    whole = merged(sketches.of_values(pa.array(["a"] * 5 + ["b"])), sketches.of_values(pa.array(["b"] * 2 + ["c"])))
    assert [(one.value, one.count) for one in told(whole).top] == [("a", 5), ("b", 3), ("c", 1)]
    secret = told(sketches.of_texts(pa.array(["a person's name", "another"])))
    assert not secret.top and secret.distinct == pytest.approx(2, abs=0.1)
    assert b"person" not in secret.SerializeToString()


def test_truth_values_and_vectors_have_their_own_way() -> None:
    flags = sketches.of_column(pa.array([True, False, True]), counted=False)
    assert flags is not None and [one.value for one in told(flags).top] == ["true", "false"]
    assert sketches.of_column(pa.array([[1.0], [2.0]]), counted=False) is None


numbers = st.lists(st.floats(-1e9, 1e9) | st.integers(0, 5).map(float), min_size=1, max_size=60)


@given(numbers, numbers, numbers)
def test_merging_is_associative_and_survives_the_wire(first: list[float], second: list[float],
                                                      third: list[float]) -> None:
    def of(values: list[float]) -> Sketch:
        return sketches.of_numbers(np.array(values))

    left = merged(merged(of(first), of(second)), of(third))
    read = sketches.read(told(merged(of(second), of(third))))
    assert read is not None
    right = merged(of(first), read)
    # So few values are kept one by one: whatever the order of merging, the quantiles are those of all of them.
    assert list(told(left).quantiles) == list(told(right).quantiles)
    assert told(left).distinct == told(right).distinct
    assert left.seen == right.seen


@pytest.mark.parametrize("garbage", [b"x", b"\xff" * 64, bytes(4096),
                                     b"\x0a\x01\x07\x0c\x00\x08\x00\x0a" + bytes(5000)])
@pytest.mark.parametrize("member", ["quantile_sketch", "distinct_sketch", "frequent_sketch"])
def test_bytes_that_are_no_sketch_are_invalid(member: str, garbage: bytes) -> None:
    with pytest.raises(Invalid, match="sketch"):
        sketches.read(FieldQuality(field="x", **{member: garbage}))  # type: ignore[arg-type]


@given(st.lists(st.integers(0, 2**64 - 1), max_size=50), st.integers(0, 2**64 - 1))
def test_both_loops_fill_the_same_cells(values: list[int], start: int) -> None:
    bits = np.concatenate((np.array(values, np.uint64), np.arange(500, dtype=np.uint64) + np.uint64(start)))
    cells = []
    for loops in (LOOPS[0], LOOPS[-1]):
        with looping(loops), np.errstate(over="ignore"):
            cells.append(sketches._registers(bits).tolist())
    assert cells[0] == cells[1]
