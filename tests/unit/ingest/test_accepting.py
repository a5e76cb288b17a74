"""The verbs on one pipeline's events: what is kept, dropped, summarised and traced, batch by batch."""

import random
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest

from lepton.clock import FakeClock
from lepton.contracts import features
from lepton.contracts.pb.quality_pb2 import QualitySummary
from lepton.errors import Invalid, Refused, Unavailable
from services.ingest.core.features import encoded
from services.ingest.core.partition import HEAD, EventsPartition, LabelsPartition
from services.ingest.core.quarantine import Quarantine
from services.ingest.flow.accepting import SAMPLED_SPANS, Accepting, Results, Spec
from tests.unit.ingest.samples import order, pipeline, record, records

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Book:
    """Takes summaries, and can be away."""

    def __init__(self) -> None:
        self.told: list[QualitySummary] = []
        self.away = False

    async def send(self, message: QualitySummary) -> None:
        if self.away:
            raise Unavailable("away")
        self.told.append(message)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def accepting(clock: FakeClock) -> Accepting:
    made = Accepting(Spec(pipeline(), 1, 1, 2), Quarantine(), lambda parent, event_id: f"{parent}/{event_id}", clock)
    made.restore_events(0, {})
    made.restore_labels(0, {})
    return made


def ids(results: Results) -> list[str]:
    return [name for value in results.features
            for name in features.decode_batch(value).column(features.EVENT_ID).to_pylist()]


async def test_a_dropped_batch_comes_again_and_counts_once(accepting: Accepting, clock: FakeClock) -> None:
    book = Book()
    assert ids(await accepting.accept(0, records(order(1)))) == ["o-1"]
    accepting.drop_events(0)
    assert ids(await accepting.accept(0, records(order(1), order(2)))) == ["o-1", "o-2"]
    accepting.keep_events(0)
    assert ids(await accepting.accept(0, records(order(1)))) == []
    accepting.keep_events(0)
    await accepting.summarise("i", book.send)
    assert [(one.accepted, one.duplicates) for one in book.told] == [(2, 1)]


async def test_a_dropped_label_batch_comes_again(accepting: Accepting) -> None:
    label = records({"event_id": "o-1", "label": True})
    assert len((await accepting.label(0, label)).outcomes) == 1
    accepting.drop_labels(0)
    assert len((await accepting.label(0, label)).outcomes) == 1
    accepting.keep_labels(0)
    assert (await accepting.label(0, label)).tally.duplicates == 1


async def test_a_summary_that_could_not_be_sent_is_in_the_next(accepting: Accepting, clock: FakeClock) -> None:
    book = Book()
    start = clock.now()
    await accepting.summarise("i", book.send)
    assert book.told == []
    start = clock.now()
    await accepting.accept(0, records(order(1)))
    accepting.keep_events(0)
    book.away = True
    await clock.advance(2)
    with pytest.raises(Unavailable):
        await accepting.summarise("i", book.send)
    book.away = False
    await accepting.accept(0, records(order(2)))
    accepting.keep_events(0)
    await clock.advance(2)
    await accepting.summarise("i", book.send)
    (told,) = book.told
    assert told.accepted == 2
    assert told.interval_start.ToDatetime() == start.replace(tzinfo=None)
    assert told.interval_end.ToDatetime() - told.interval_start.ToDatetime() == timedelta(seconds=4)


async def test_spans_a_batch_are_bounded_and_every_trace_goes_on(accepting: Accepting) -> None:
    events = [record(order(number), number, (("traceparent", TRACE.encode()),)) for number in range(SAMPLED_SPANS + 5)]
    (value,) = (await accepting.accept(0, events)).features
    traces = features.decode_batch(value).column(features.TRACEPARENT).to_pylist()
    assert traces[:2] == [f"{TRACE}/o-0", f"{TRACE}/o-1"]
    assert traces[SAMPLED_SPANS:] == [TRACE] * 5


async def test_adopting_keeps_the_memory_and_refuses_what_does_not_fit(accepting: Accepting) -> None:
    await accepting.accept(0, records(order(1)))
    accepting.keep_events(0)
    accepting.adopt(Spec(pipeline(("dedupe_window: 1000", "dedupe_window: 5")), 2, 1, 2))
    assert (await accepting.accept(0, records(order(1)))).tally.duplicates == 1
    with pytest.raises(Refused, match="field items changes from int to float"):
        accepting.adopt(Spec(pipeline(("items: {type: int}", "items: {type: float}")), 3, 1, 2))
    assert accepting.spec.version == 2


async def test_a_released_partition_is_forgotten(accepting: Accepting) -> None:
    await accepting.accept(0, records(order(1)))
    accepting.release_events(0)
    accepting.release_labels(0)
    accepting.drop_events(0)
    accepting.drop_labels(0)
    accepting.restore_events(0, {})
    assert ids(await accepting.accept(0, records(order(1)))) == ["o-1"]


async def test_totals_and_quarantines_are_kept_with_the_state(accepting: Accepting) -> None:
    accepting.restore_events(1, {})
    results = await accepting.accept(1, records(order(1), b"x", order(1)))
    accepting.keep_events(1)
    quarantine = Quarantine()
    quarantine.decide("till", True, (1, 2))
    again = Accepting(accepting.spec, quarantine, lambda parent, _: parent, FakeClock())
    again.restore_events(1, dict(results.state))
    state = dict(results.state) | dict((await again.accept(1, records(order(2), order(1)))).state)
    partition = EventsPartition(pipeline())
    partition.restore(state)
    head = partition.head
    assert (head.accepted, head.rejected, head.duplicates, head.quarantined) == (2, 1, 2, 0)
    assert head.decisions == {"till": (True, (1, 2))}
    third = Quarantine()
    Accepting(accepting.spec, third, lambda parent, _: parent, FakeClock()).restore_events(1, state)
    assert third.sources == {"till"}


def test_state_that_cannot_be_read_is_not_passed_over() -> None:
    for records_ in ({HEAD: b"\xc1"}, {b"seen/1": b"\xc1"}):
        with pytest.raises(Invalid, match="cannot be read"):
            EventsPartition(pipeline()).restore(records_)
    with pytest.raises(Invalid, match="cannot be read"):
        LabelsPartition(10).restore({b"labels/0": b"\xc1"})


def test_keeping_without_a_batch_changes_nothing() -> None:
    events, labels = EventsPartition(pipeline()), LabelsPartition(10)
    events.keep()
    labels.keep()
    assert len(events.past.seen) == 0


@pytest.mark.parametrize(("limit", "fewest"), [(10**9, 1), (20_000, 2), (1, 50)])
def test_a_batch_too_large_for_a_record_is_cut_between_rows(limit: int, fewest: int) -> None:
    values: list[Any] = [order(number, note=random.randbytes(500).hex()) for number in range(50)]
    accepted = _accepted(values)
    parts = encoded(accepted, limit)
    assert fewest <= len(parts) <= 50
    assert limit == 1 or all(len(part) <= limit for part in parts)
    back = pa.Table.from_batches([features.decode_batch(part) for part in parts])
    assert back.equals(pa.Table.from_batches([accepted]))


def _accepted(values: list[Any]) -> pa.RecordBatch:
    from services.ingest.core.acceptance import Acceptance
    from services.ingest.core.clean.past import Past

    return Acceptance(pipeline(), 1).judge(records(*values), Past.of(pipeline()), {}, frozenset()).batch
