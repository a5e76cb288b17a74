"""The same said again under another id: found within the window, over restarts, and counted by itself."""

from tests.unit.ingest.clean.line import Line, events
from tests.unit.ingest.samples import order, pipeline

CONTENT = "clean: {duplicates: {content: true}}\n"


def shop() -> Line:
    return Line(pipeline(more=CONTENT))


def test_the_same_content_under_another_id_is_put_aside_and_counted_by_itself() -> None:
    line = shop()
    same = {"customer": "c", "price": 2.0, "note": "hello"}
    line.take(events(order(1, **same), order(2, **same), order(1, **same), order(3, **(same | {"price": 2.5}))))
    assert [row["_event_id"] for row in line.rows] == ["o-1", "o-3"]
    assert line.refused == {1: ("duplicate_content", None)}
    tally = line.tally
    assert (tally.accepted, tally.duplicates, tally.content_duplicates, tally.rejected) == (2, 1, 1, 0)


def test_entity_time_and_every_field_are_content_and_the_source_is_not() -> None:
    line = shop()
    base = order(0, customer="c", items=3, member=True)
    line.take(events(base, base | {"order": "1", "customer": "d"}, base | {"order": "2", "at": 5},
                     base | {"order": "3", "items": 4}, base | {"order": "4", "member": None},
                     base | {"order": "5", "unknown": 1}))
    assert [row["_event_id"] for row in line.rows] == ["o-0", "1", "2", "3", "4"]
    assert line.refused == {5: ("duplicate_content", None)}


def test_the_window_survives_restarts_and_an_aborted_batch_is_not_remembered() -> None:
    line = shop()
    line.take(events(order(1, customer="c")))
    line.abort(events(order(2, customer="d")))
    line.restart()
    line.take(events(order(3, customer="c"), order(4, customer="d"), first=10))
    assert line.refused == {10: ("duplicate_content", None)}
    assert [row["_event_id"] for row in line.rows] == ["o-1", "o-4"]


def test_what_was_put_aside_may_come_again_corrected() -> None:
    line = shop()
    line.take(events(order(1, customer="c"), order(2, customer="c"), order(2, customer="c", price=3.0)))
    assert [row["_event_id"] for row in line.rows] == ["o-1", "o-2"]
    assert line.tally.duplicates == 0


def test_content_is_forgotten_with_the_window() -> None:
    line = Line(pipeline(("dedupe_window: 1000", "dedupe_window: 600"), more=CONTENT))
    line.take(events(order("first", customer="c")))
    for start in range(0, 2000, 500):
        line.take(events(*(order(number) for number in range(start, start + 500)), first=start))
    line.take(events(order("again", customer="c"), first=5000))
    assert line.refused == {}
    assert len(line.partition.past.contents) < 2000


def test_without_the_key_content_does_not_matter() -> None:
    line = Line(pipeline())
    line.take(events(order(1, customer="c"), order(2, customer="c")))
    assert (len(line.rows), len(line.partition.past.contents)) == (2, 0)


def test_a_newer_version_of_the_pipeline_can_ask_for_it_and_leave_it() -> None:
    line = Line(pipeline())
    line.take(events(order(1, customer="c")))
    line.adopt(pipeline(more=CONTENT))
    line.take(events(order(2, customer="c"), order(3, customer="c"), first=5))
    assert line.refused == {6: ("duplicate_content", None)}
    line.adopt(pipeline())
    line.take(events(order(4, customer="c"), first=9))
    assert line.rows[-1]["_event_id"] == "o-4"
