"""Records that are read together say what each says alone."""

from dataclasses import replace
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from lepton.bus.records import Record
from services.ingest.core.arrow import record as record_reading
from services.ingest.core.clean.past import Past
from services.ingest.core.judged import Accepted
from services.ingest.core.reading.fields import read_times
from tests.unit.ingest.arrow.streams import AT, arrow, here, judged, orders, rows_of
from tests.unit.ingest.samples import order, pipeline, record

SHOP = pipeline()
WITH_LABEL = pipeline(("{field: bought, type: bool}", "{field: bought, type: bool, arrives: with_event}"))
TILL = (("ce_source", b"till"),)
SPLIT = (("lepton-split-from", b"lepton-events-shop/1@0"),)


def mixed() -> list[Record]:
    """Records alike and unlike, good and bad rows in each, single events between them."""
    names = [f"o-{number}" for number in range(40)]
    strays = [here(2)[0], *here(2, 1), here(2)[1]]
    far = pa.array([AT, datetime(2027, 1, 1, tzinfo=UTC)], pa.timestamp("us", tz="UTC"))
    return [
        arrow(orders(4, order=names[:4], price=[1.0, -1.0, 2.0, None]), 0),
        arrow(orders(4, order=names[4:8], customer=strays, price=[1.0, 2.0, 3.0, -1.0]), 1),
        arrow(orders(3, order=[names[0], names[8], names[8]], customer=here(1) * 3), 2, TILL),
        arrow(orders(2, order=names[9:11], country=pa.array(["de", "xx"]).dictionary_encode()), 3),
        arrow(orders(2, order=names[11:13], country=pa.array(["us", "us"]).dictionary_encode()), 4),
        arrow(orders(2, order=names[13:15], customer=strays[:2]), 5, SPLIT),
        arrow(orders(2, order=names[15:17], at=far), 6, (("ce_time", b"2026-06-01T10:00:00Z"),)),
        arrow(orders(2, order=names[17:19], at=None), 7, (("ce_time", b"2026-06-01T10:00:00Z"),)),
        arrow(orders(2, order=names[19:21], at=None), 8, (("ce_time", b"no time"),)),
        record(order("single"), 9), record(b"no JSON", 10),
        arrow(b"no stream", 11), arrow(orders(2, nobody=[1, 2]), 12), arrow(orders(0), 13),
        arrow(orders(2, order=["", "\x07"]), 14), arrow(orders(2, order=names[21:23], weight=[float("nan"), 1.0]), 15),
        arrow(orders(2, order=names[23:25], _traceparent=None,
                     traceparent=["00-" + "1" * 32 + "-" + "2" * 16 + "-01", None]), 16)]


def one_by_one(batch: list[Record]) -> list[Accepted]:
    past, found = Past.of(SHOP), []
    for one in batch:
        found.append(judged(SHOP, [one], past=past))
        past.seen.apply(found[-1].plan)
        past.watermark = found[-1].watermark
    return found


def test_records_together_say_what_each_says_alone() -> None:
    batch = mixed()
    whole, each = judged(SHOP, batch), one_by_one(batch)
    assert rows_of(whole) == [row for one in each for row in rows_of(one)]
    assert whole.rejections == [replace(rejection, position=position) for position, one in enumerate(each)
                                for rejection in one.rejections]
    assert whole.strays == [(position, stray) for position, one in enumerate(each) for _, stray in one.strays]
    assert whole.traces == [trace for one in each for trace in one.traces or [None] * len(rows_of(one))]
    assert (whole.watermark, whole.plan.added.texts.to_pylist()) == (
        each[-1].watermark, [text for one in each for text in one.plan.added.texts.to_pylist()])
    for count in ("accepted", "rejected", "duplicates", "late", "future", "codes"):
        told = [getattr(one.tally, count) for one in each]
        assert getattr(whole.tally, count) == sum(told[1:], start=told[0])
    assert len(whole.strays) > 0
    assert (whole.tally.duplicates, whole.tally.accepted > 10, whole.tally.rejected > 8) == (2, True, True)


def test_labels_that_come_with_records_stay_with_their_rows() -> None:
    records = [arrow(orders(3, order=["a", "b", "c"], price=[1.0, -1.0, 2.0], bought=[True, False, None]), 0),
               arrow(orders(2, order=["d", "e"], bought=[False, True]), 1)]
    outcomes = judged(WITH_LABEL, records).outcomes
    assert [(one.event_id, one.flag) for one in outcomes] == [("a", True), ("d", False), ("e", True)]


def test_what_one_record_cannot_be_read_for_refuses_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    # No record is known that opens and then fails; what comes of one that does is tried all the same.
    def fails(column: pa.Array) -> object:
        if len(column) % 2:
            raise pa.ArrowInvalid("no such number of rows")
        return read_times(column)

    monkeypatch.setattr(record_reading, "read_times", fails)
    whole = judged(SHOP, [arrow(orders(2), 0), arrow(orders(3, order=["x", "y", "z"]), 1),
                          arrow(orders(4, order=["a", "b", "c", "d"]), 2)])
    assert [row["_event_id"] for row in rows_of(whole)] == ["o-0", "o-1", "a", "b", "c", "d"]
    assert [(one.position, one.row, one.code, one.events) for one in whole.rejections] == [(1, None, "malformed", 3)]


def test_the_originals_of_rows_of_several_records_are_told_each_as_its_own_allows() -> None:
    nowhere = pa.array([2**62, 1], pa.timestamp("us", tz="Nowhere/At_All"))
    bad = [orders(2, price=[-1.0, 2.0]), orders(2, price=[3.0, -4.0], weight=[None, float("inf")]),
           orders(2, price=[-5.0, -6.0], at=nowhere), orders(2, price=[-7.0, 8.0])]
    told = [one.original or b"" for one in judged(SHOP, [arrow(table, number) for number, table in enumerate(bad)]
                                                  ).rejections]
    assert [text[:1] == b"{" for text in told] == [True, False, False, False, True]
    assert b'"price":-1.0' in told[0]
    assert b'"price":-7.0' in told[-1]


def test_an_original_tells_its_time_with_its_zone_whatever_its_unit() -> None:
    for unit, share in (("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)):
        at = pa.array([1780000000 * share, 1780000000 * share], pa.timestamp(unit, tz="UTC"))
        told = [one.original or b"" for one in judged(SHOP, [arrow(orders(2, price=[-1.0, 2.0], at=at))]).rejections]
        assert b'"at":"2026-05-28T20:26:40Z"' in told[0]
