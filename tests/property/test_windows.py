"""Windows agree with an oracle that keeps everything, however the events are cut into batches."""

import math
from array import array
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lepton.contracts.pipeline import Pipeline
from tests.unit.ingest.windows.oracle import Oracle
from tests.unit.ingest.windows.samples import ALL, Event, Partition, at, columns_of, cut, pipeline
from tests.unit.ingest.windows.samples import batch as rows_of

KINDS = {
    "tumbling": "name: t, kind: tumbling, size: 60s",
    "hopping": "name: h, kind: hopping, size: 60s, every: 10s",
    "sliding": "name: s, kind: sliding, size: 60s",
    "session": "name: n, kind: session, gap: 30s",
}
PIPELINES = {kind: pipeline(f"{text}, of: value, aggregates: [{ALL}]") for kind, text in KINDS.items()}
PIPELINES["all"] = pipeline(*(f"{text}, of: value, aggregates: [{ALL}]" for text in KINDS.values()),
                            "name: e, size: 45s, aggregates: [count]",
                            "name: w, kind: hopping, size: 40s, every: 20s, of: note, aggregates: [distinct, count]")

values = st.one_of(st.none(), st.sampled_from([0.0, 1.0, -2.5, 7.0]), st.floats(-1e6, 1e6))
events = st.builds(
    Event, entity=st.sampled_from(["a", "b", "c", "d"]), value=values, note=st.sampled_from([None, "x", "y", "z"]),
    at=st.integers(0, 400).map(lambda tenth: at(tenth)))
steps = st.lists(st.tuples(events, st.one_of(st.integers(0, 20), st.integers(-90, 300), st.just(100_000))), max_size=40)


def stream(drawn: Sequence[tuple[Event, int]]) -> list[Event]:
    """Mostly forward in time, sometimes back, now and then far ahead."""
    now, found = 0, []
    for event, step_s in drawn:
        found.append(Event(event.entity, at(now + step_s), event.value, event.note))
        now += step_s if 0 <= step_s < 1000 else 0
    return found


streams = st.one_of(steps.map(stream), st.lists(events, max_size=40))
cuts = st.lists(st.integers(0, 40), max_size=8)


def agrees(spec: Pipeline, found: Sequence[dict[str, float | None]], given: Sequence[Event]) -> None:
    oracle = Oracle(spec.features.windows)
    for index, (row, event) in enumerate(zip(found, given, strict=True)):
        for column, expected in oracle.accept(event).items():
            here = row[column]
            if expected is None or here is None:
                assert here == expected, (index, column, row, expected)
            else:
                assert math.isclose(here, expected, rel_tol=1e-9, abs_tol=1e-6), (index, column, here, expected)


@pytest.mark.parametrize("kind", PIPELINES)
@given(drawn=streams, places=cuts)
def test_columns_are_what_the_oracle_says(kind: str, drawn: list[Event], places: list[int]) -> None:
    spec = PIPELINES[kind]
    agrees(spec, Partition(spec).accept_in(cut(drawn, places)).rows, drawn)


@pytest.mark.parametrize("kind", PIPELINES)
@given(drawn=streams, places=cuts, others=cuts)
def test_batches_cut_in_any_way_give_the_same_columns_and_the_same_state_to_the_last_bit(
        kind: str, drawn: list[Event], places: list[int], others: list[int]) -> None:
    spec = PIPELINES[kind]
    one, two = (Partition(spec).accept_in(cut(drawn, where)) for where in (places, others))
    assert one.rows == two.rows
    assert content(one) == content(two)


@pytest.mark.parametrize("kind", PIPELINES)
@given(drawn=streams, places=cuts)
def test_a_restored_partition_goes_on_like_one_that_never_stopped(
        kind: str, drawn: list[Event], places: list[int]) -> None:
    spec = PIPELINES[kind]
    living, restored = Partition(spec), Partition(spec)
    for part in cut(drawn, places):
        if part:
            living.accept(part)
            restored = restored.restored()
            restored.accept(part)
    assert living.rows == restored.rows
    assert content(living) == content(restored) == content(restored.restored())


@given(drawn=streams, places=cuts)
def test_what_was_dropped_leaves_no_trace(drawn: list[Event], places: list[int]) -> None:
    spec = PIPELINES["all"]
    steady, shaken = Partition(spec), Partition(spec)
    for part in cut(drawn, places):
        if part:
            shaken.windows.plan(rows_of(spec, part[::-1]))
            shaken.windows.drop()
            given, state = shaken.windows.plan(rows_of(spec, part))
            shaken.windows.drop()
            again, same = shaken.windows.plan(rows_of(spec, part))
            assert (columns_of(spec, again), dict(same)) == (columns_of(spec, given), dict(state))
            assert columns_of(spec, given) == steady.accept(part)
            shaken.windows.keep()
    assert content(steady) == content(shaken)


def content(partition: Partition) -> object:
    """What the windows remember, without those already forgotten and whichever blocks they lie in."""
    memory, span = partition.windows._memory, partition.windows._span_us  # state has no other door
    found = []
    for block in memory.blocks.values():
        held = block.entities
        for place, name in enumerate(held.name.tolist()):
            if memory.head.watermark - held.seen[place] > span:
                continue
            panes = {window: [(int(cells.pane[at]), *(_plain(column[at]) for column in cells.columns.values()))
                              for at in (cells.owner == held.number[place]).nonzero()[0].tolist()]
                     for window, cells in block.cells.items()}
            found.append((name, int(held.number[place]), int(held.seen[place]), int(held.latest[place]),
                          {window: sorted(one, key=str) for window, one in panes.items()}))
    return memory.head.watermark, memory.head.following, sorted(found, key=lambda one: one[0])


def _plain(value: Any) -> object:
    return tuple(value) if isinstance(value, array) else str(value)
