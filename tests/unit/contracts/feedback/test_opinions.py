"""An opinion comes back as it went, and what is refused of one is named without being repeated."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lepton.contracts.envelope import Envelope
from lepton.contracts.feedback.opinions import MAX_REASON_CHARS, MEDIA_TYPE, Opinion, decode, encode, is_opinion
from lepton.errors import Invalid

NAMES = st.text(min_size=1, max_size=20)
SAID = st.booleans().map(lambda yes: {"accepted": yes}) | st.floats(-1, 1).map(lambda score: {"score": score})


@given(NAMES, NAMES, SAID, st.integers(0, 2**63 - 1), st.text(max_size=MAX_REASON_CHARS))
def test_it_comes_back_as_it_went(event: str, author: str, said: dict[str, bool | float], version: int,
                                  reason: str) -> None:
    opinion = Opinion(event_id=event, author=author, version=version, reason=reason, **said)  # type: ignore[arg-type]
    assert decode(encode(opinion)) == opinion


def test_a_score_below_nought_rejects() -> None:
    told = [Opinion(event_id="e", author="a", score=score).rejected for score in (-1.0, -0.001, 0.0, 1.0)]
    assert told == [True, True, False, False]
    assert [Opinion(event_id="e", author="a", accepted=yes).rejected for yes in (True, False)] == [False, True]


def test_its_type_alone_tells_it_from_a_label() -> None:
    assert is_opinion(Envelope(event_id="e", content_type=MEDIA_TYPE).to_headers())
    for headers in ((), (("content-type", b"application/json"),), (("ce_type", MEDIA_TYPE.encode()),)):
        assert not is_opinion(headers)


@pytest.mark.parametrize(("value", "field"), [
    (b'{"event_id": "e", "author": "a", "accepted": "secret"}', "accepted"),
    (b'{"event_id": "e", "author": "a", "accepted": true, "reason": ["secret"]}', "reason"),
    (b'{"event_id": "e", "author": "a", "accepted": true, "reason": "%s"}' % (b"secret" * 100), "reason"),
    (b'{"event_id": "e", "author": "a", "accepted": true, "score": 0.5, "reason": "secret"}', "said"),
    (b'{"event_id": "", "author": "a", "accepted": true}', "event_id"),
    (b'{"event_id": "e", "accepted": true}', "author"),
    (b'"secret"', None), (b"secret", None), (b"\xff", None), (b"", None), (None, None)])
def test_what_is_refused_is_named_and_not_repeated(value: bytes | None, field: str | None) -> None:
    with pytest.raises(Invalid) as refused:
        decode(value)
    assert refused.value.field == field
    assert "secret" not in f"{refused.value}{refused.value.__cause__}"
