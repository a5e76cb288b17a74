"""A gap filled with what the same entity had last: in a batch, over batches and restarts, and not too long ago."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton.contracts.pipeline import InvalidPipeline
from services.ingest.core.steps import forward_fill
from services.ingest.core.steps.forward_fill import REACH_ROWS, ForwardFillStep
from tests.unit.ingest.clean.line import Line, events
from tests.unit.ingest.samples import order, pipeline

FILL = ("clean: {missing: {weight: forward_fill, items: forward_fill, member: forward_fill, country: forward_fill, "
        "note: forward_fill}}\n")


def shop() -> Line:
    return Line(pipeline(more=FILL))


def test_a_gap_is_filled_with_the_entitys_last_value_and_the_row_says_so() -> None:
    line = shop()
    line.take(events(order(0, customer="a", weight=2.0, items=3), order(1, customer="b", weight=9.0),
                     order(2, customer="a"), order(3, customer="a", weight=4.0), order(4, customer="a", items=5)))
    assert [(row["weight"], row["items"]) for row in line.rows] == [
        (2.0, 3), (9.0, None), (2.0, 3), (4.0, 3), (4.0, 5)]
    note = {"what": "forward_fill", "before": ""}
    assert [row["_repairs"] for row in line.rows] == [
        None, None, [{"field": 1} | note, {"field": 2} | note], [{"field": 2} | note], [{"field": 1} | note]]
    assert (line.tally.fields["weight"].repaired, line.tally.fields["items"].repaired) == (2, 2)
    assert (line.tally.fields["weight"].missing, line.tally.fields["price"].repaired) == (2, 0)


def test_every_scalar_type_is_filled_as_it_is() -> None:
    line = shop()
    values = {"weight": 1.5, "items": 2**60, "member": False, "country": "de", "note": "as it was"}
    line.take(events(order(0, customer="a", **values)))
    line.restart()
    line.take(events(order(1, customer="a")))
    assert {name: line.rows[1][name] for name in values} == values


def test_what_an_aborted_batch_had_is_not_known() -> None:
    line = shop()
    line.take(events(order(0, customer="a", weight=1.0)))
    line.abort(events(order(1, customer="a", weight=2.0)))
    line.take(events(order(2, customer="a")))
    assert line.rows[-1]["weight"] == 1.0


def test_a_filled_value_is_not_itself_a_value() -> None:
    line = shop()
    line.take(events(order(0, customer="a", weight=1.0), order(1, customer="a")))
    assert line.partition.steps[2]._last["a"]["weight"] == (1.0, 0)  # type: ignore[attr-defined]


def test_a_very_long_text_is_not_remembered_and_neither_is_what_it_replaced() -> None:
    line = shop()
    long = "x" * 201
    line.take(events(order(0, customer="a", note="short"), order(1, customer="a", note=long),
                     order(2, customer="a"), order(3, customer="b", note="kept"), order(4, customer="b")))
    line.take(events(order(5, customer="a"), first=9))
    assert [row["note"] for row in line.rows] == ["short", long, None, "kept", "kept", None]


def test_fields_without_the_policy_keep_their_gaps() -> None:
    line = Line(pipeline(more="clean: {missing: {weight: forward_fill}}\n"))
    line.take(events(order(0, customer="a", items=1, weight=1.0), order(1, customer="a")))
    assert (line.rows[1]["items"], line.rows[1]["weight"]) == (None, 1.0)


@pytest.mark.parametrize("batch", [1000, 7001])
def test_a_value_is_forgotten_after_so_many_rows_of_the_partition(batch: int) -> None:
    line = shop()
    stream = [order(0, customer="a", weight=7.0), *(order(row, customer=f"c{row % 50}", items=row)
                                                    for row in range(1, REACH_ROWS)),
              order("in reach", customer="a"), order("beyond", customer="a")]
    for start in range(0, len(stream), batch):
        line.take(events(*stream[start:start + batch], first=start))
    assert [row["weight"] for row in line.rows[-2:]] == [7.0, None]


def test_state_is_bounded_however_many_entities_there_are() -> None:
    line = shop()
    for start in range(0, 60_000, 5000):
        line.take(events(*(order(row, customer=f"c{row}", weight=1.0) for row in range(start, start + 5000)),
                         first=start))
    step = line.partition.steps[2]
    assert isinstance(step, ForwardFillStep)
    assert REACH_ROWS <= len(step._last) <= REACH_ROWS + 2 * 512
    assert sum(1 for key in line.state if key.startswith(b"filled/")) < 100


ROW = st.tuples(st.sampled_from("abcd"), st.one_of(st.none(), st.integers(0, 5).map(float)),
                st.sampled_from([None, "us", "de"]))


@given(st.lists(st.tuples(st.lists(ROW, min_size=1, max_size=8), st.sampled_from(["", "abort", "restart"])),
                max_size=8), st.integers(1, 6))
@settings(max_examples=80, deadline=None)
def test_filling_is_what_going_through_the_rows_one_by_one_gives(batches: list[tuple[list[Any], str]],
                                                                reach: int) -> None:
    line, last, number, wanted = shop(), dict[tuple[str, str], tuple[int, Any]](), 0, list[tuple[Any, Any]]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forward_fill, "REACH_ROWS", reach)
        for rows, what in batches:
            batch = events(*(order(number + place, customer=entity, weight=weight, country=country)
                             for place, (entity, weight, country) in enumerate(rows)), first=number)
            if what == "abort":
                line.abort(batch)
            line.take(batch)
            if what == "restart":
                line.restart()
            for entity, weight, country in rows:
                filled = []
                for name, value in (("weight", weight), ("country", country)):
                    if value is not None:
                        last[entity, name] = number, value
                    row, known = last.get((entity, name), (-reach - 1, None))
                    filled.append(known if number - row <= reach else None)
                wanted.append((filled[0], filled[1]))
                number += 1
    assert [(row["weight"], row["country"]) for row in line.rows] == wanted


def test_a_field_that_is_no_scalar_cannot_be_filled_forward() -> None:
    vector = ("    note: {type: text}", "    note: {type: text}\n    v: {type: vector, dims: 2, input: false}")
    with pytest.raises(InvalidPipeline, match="nothing stands in for a missing vector"):
        pipeline(vector, more="clean: {missing: {v: forward_fill}}\n")
    line = Line(pipeline(vector, more="clean: {missing: {default: forward_fill}}\n"))
    line.take(events(order(0, customer="a", v=[1.0, 2.0]), order(1, customer="a")))
    assert line.rows[1]["v"] is None
