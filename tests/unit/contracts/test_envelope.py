"""What rides in headers survives the way there and back, and what cannot be read is named."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lepton.contracts.envelope import Envelope
from lepton.errors import Invalid

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TEXT = st.none() | st.text(max_size=20)
NUMBER = st.none() | st.integers(0, 2**40)


@given(st.builds(
    Envelope, event_id=TEXT, source=TEXT, event_type=TEXT, content_type=TEXT, spec_version=NUMBER, attempt=NUMBER,
    traceparent=st.none() | st.just(TRACE), occurred_at=st.none() | st.datetimes(timezones=st.just(UTC)),
))
def test_headers_come_back_as_they_went(envelope: Envelope) -> None:
    assert Envelope.from_headers(envelope.to_headers()) == envelope


def test_names_follow_cloudevents_where_they_leave_the_platform() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2)))
    headers = dict(Envelope(event_id="e1", occurred_at=moment, source="s", event_type="t", spec_version=4, attempt=2,
                            traceparent=TRACE, content_type="application/json").to_headers())
    assert headers == {
        "ce_id": b"e1", "ce_time": b"2026-01-02T01:04:05.000000Z", "ce_source": b"s", "ce_type": b"t",
        "ce_specversion": b"1.0", "lepton-spec-version": b"4", "lepton-attempt": b"2", "traceparent": TRACE.encode(),
        "content-type": b"application/json",
    }


def test_nothing_said_is_no_header() -> None:
    assert Envelope().to_headers() == ()
    assert Envelope.from_headers((("other", b"\xff"),)) == Envelope()


def test_the_last_of_repeated_headers_counts() -> None:
    assert Envelope.from_headers((("ce_id", b"a"), ("ce_id", b"b"))).event_id == "b"


@pytest.mark.parametrize(("header", "value"), [
    ("ce_id", b"\xff"), ("ce_time", b"yesterday"), ("ce_time", b"2026-01-01T00:00:00"), ("ce_specversion", b"0.3"),
    ("ce_time", b"0001-01-01T00:00:00+10:00"),
    ("lepton-attempt", b"-1"), ("lepton-spec-version", "²".encode()), ("lepton-attempt", b"1" * 19),
])
def test_a_header_that_cannot_be_read_is_named(header: str, value: bytes) -> None:
    with pytest.raises(Invalid) as refused:
        Envelope.from_headers(((header, value),))
    assert refused.value.field == header


def test_a_broken_trace_is_dropped_and_the_record_kept() -> None:
    assert Envelope.from_headers((("traceparent", b"00-zz"),)).traceparent is None


def test_a_time_without_a_zone_is_a_bug() -> None:
    with pytest.raises(ValueError, match="time zone"):
        Envelope(occurred_at=datetime(2026, 1, 1)).to_headers()
