"""Whatever a Pipeline cleans, the same events come to the same end: however they are cut, replayed and taken over."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton.bus.records import Record
from lepton.contracts.pipeline import Pipeline
from tests.unit.ingest.clean.line import Line
from tests.unit.ingest.samples import order, pipeline, record

# Thousands of rows an example: minutes on a machine that is busy with other things.
pytestmark = pytest.mark.timeout(900)

BROKER_MS = 1_780_000_000_000
NOW = datetime.fromtimestamp(BROKER_MS / 1000, UTC)
EVENTS = 2_300

TIMES = "late: {after: 90s, action: %s}, future: {ahead: 60s, action: %s}"
CLEAN = {
    "iqr": "outliers: {method: iqr, action: quarantine}, " + TIMES % ("quarantine", "quarantine"),
    "mad": "outliers: {method: mad, action: keep, k: 3}, missing: {items: drop}",
    "zscore": "outliers: {method: zscore, action: quarantine, k: 2}, duplicates: {content: true}",
    "everything": "outliers: {method: iqr, action: quarantine, k: 1}, duplicates: {content: true}, missing: {weight: "
                  "forward_fill, country: forward_fill, items: drop}, " + TIMES % ("quarantine", "clip"),
}
TREES = "outliers: {method: half_space_trees, action: quarantine, k: 0.96}, duplicates: {content: true}, " + TIMES % (
    "keep", "clip")


def spec(clean: str) -> Pipeline:
    return pipeline(("dedupe_window: 1000", "dedupe_window: 700"), more=f"clean: {{{clean}}}\n")


def stream(seed: int, count: int = EVENTS) -> list[Record]:
    """Events with all there is to clean: gaps, outliers, repetitions of every kind, times before and after.

    What is repeated was first sent at most 600 events before, well within the dedupe window: beyond it an event is
    remembered for as long as its chunk is, which the borders of batches decide.
    """
    chance = np.random.default_rng(seed)
    found: list[dict[str, Any]] = []
    first: list[int] = []
    for number in range(count):
        if found and chance.random() < 0.06:
            near = [place for place in first[-600:] if place >= number - 600]
            again = found[near[int(chance.integers(len(near)))]]
            # The same event, the same content under another id, or the same id with another content.
            changes: list[dict[str, Any]] = [{}, {"order": f"again-{number}"}, {"price": 7.0}]
            found.append(again | changes[int(chance.integers(3))])
            continue
        drift = number * 0.05
        seconds = drift + (chance.normal(0, 8) if chance.random() < 0.97 else chance.normal(0, 200))
        event = order(number, customer=f"c-{chance.integers(40)}", at=(NOW + timedelta(seconds=seconds)).isoformat(),
                      price=float(abs(chance.normal(50, 5)) if chance.random() < 0.98 else chance.uniform(0, 1000)))
        for name, value in (("weight", float(chance.normal(5, 1))), ("items", int(chance.integers(1, 9))),
                            ("country", str(chance.choice(["us", "de"])))):
            if chance.random() < 0.9:
                event[name] = value
        first.append(number)
        found.append(event)
    # The broker's clock goes with the events.
    return [record(event if number % 97 else b"junk", number, timestamp_ms=BROKER_MS + number * 50)
            for number, event in enumerate(found)]


def come_to(line: Line) -> tuple[Any, ...]:
    """Everything that leaves a trace outside."""
    tally, head = line.tally, line.partition.head
    return (line.rows, line.refused,
            (tally.accepted, tally.rejected, tally.duplicates, tally.content_duplicates, tally.late, tally.future),
            {name: (one.present, one.missing, one.outliers, one.invalid, one.repaired)
             for name, one in tally.fields.items()},
            (head.accepted, head.rejected, head.duplicates, head.content_duplicates, head.late, head.future,
             head.watermark))


def cut(events: Sequence[Record], places: Sequence[int]) -> list[list[Record]]:
    ends = sorted({min(place, len(events)) for place in places} | {0, len(events)})
    return [list(events[start:stop]) for start, stop in pairwise(ends)]


def whole(clean: str, seed: int) -> Line:
    line = Line(spec(clean))
    line.take(stream(seed))
    return line


CUTS = st.lists(st.tuples(st.integers(0, EVENTS), st.sampled_from(["", "abort", "restart"])), max_size=14)


@pytest.mark.parametrize("name", list(CLEAN))
@given(cuts=CUTS, seed=st.integers(0, 2))
@settings(max_examples=12, deadline=None)
def test_cuts_aborted_batches_and_restarts_change_nothing(name: str, cuts: list[tuple[int, str]], seed: int) -> None:
    check(CLEAN[name], cuts, seed)


@given(cuts=CUTS)
@settings(max_examples=6, deadline=None)
def test_nor_do_they_with_half_space_trees(cuts: list[tuple[int, str]]) -> None:
    check(TREES, cuts, 0)


def check(clean: str, cuts: list[tuple[int, str]], seed: int) -> None:
    wanted, line, events = whole(clean, seed), Line(spec(clean)), stream(seed)
    what = dict(cuts)
    for batch in cut(events, [place for place, _ in cuts]):
        fault = what.get(batch[-1].offset + 1, "")
        if fault == "abort":
            # Half of it was tried in another batch that did not count.
            line.abort(batch[:len(batch) // 2 + 1])
        line.take(batch)
        if fault == "restart":
            line.restart()
    assert come_to(line) == come_to(wanted)


@pytest.mark.parametrize("clean", [*CLEAN.values(), TREES])
def test_the_streams_hold_something_of_everything(clean: str) -> None:
    tally = whole(clean, 0).tally
    assert tally.accepted > 1000
    assert tally.duplicates > 10
    assert tally.late > 0 or "late" not in clean
    assert tally.future > 0 or "future" not in clean
    assert tally.content_duplicates > 10 or "content" not in clean
    assert tally.fields["price"].outliers > 10 or tally.codes["outlier"] > 10
    assert tally.fields["weight"].repaired > 10 or "forward_fill" not in clean


def test_one_event_at_a_time_comes_to_the_same() -> None:
    wanted, line = whole(CLEAN["everything"], 1), Line(spec(CLEAN["everything"]))
    for event in stream(1):
        line.take([event])
    assert come_to(line) == come_to(wanted)
