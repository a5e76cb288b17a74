"""Expressions from outside are searched for in linear time, and what that engine does not take is said at once."""

import pytest

from lepton.contracts.reading.patterns import MAX_PATTERN, Pattern
from lepton.errors import Invalid


@pytest.mark.parametrize(("pattern", "line", "expected"), [
    (r"(?P<shop>\w+) price=(?P<price>\S+)", "at s-1 price=2.5 x", {"shop": "1", "price": "2.5"}),
    (r"(GET|POST) (?P<path>\S+)", "POST /x", {"path": "/x"}),
    (r"\((?P<a>[^()]+)\)", "f(ü)", {"a": "ü"}), (r"[][(](?P<a>x)", "(x", {"a": "x"}),
    (r"[^](]+(?P<a>.)[[:digit:](]", "x](", {"a": "]"}), (r"\Q(a)\E(?P<a>b)", "(a)b", {"a": "b"}),
    (r"(?i)(?P<a>x)(?P<b>y)?", "X", {"a": "X"}), (r"(?P<a>\pL+)", "Münze", {"a": "Münze"}),
    (r"(?P<a>\w+)", "Münze", {"a": "M"}), (r"^(?P<a>x)$", "xx", None)])
def test_named_groups_that_took_part_are_found_anywhere(pattern: str, line: str,
                                                        expected: dict[str, str] | None) -> None:
    assert Pattern(pattern).search([b"", line.encode(), b""])[1] == expected


@pytest.mark.parametrize(("pattern", "why"), [
    ("(", "missing [)]"), (r"(?P<a>x)(?=y)", r"\(\?="), (r"(?<!y)(?P<a>x)", r"\(\?<"), (r"(?P<a>x)\1", r"\\1"),
    (r"(?P<a>x)(?P=a)", r"\(\?P"), (r"(?P<a>x)\Z", r"\\Z"), ("x+", "no named group"), ("(x)", "no named group"),
    (r"(?P<a>x)|(?P<a>y)", "two groups called a"), ("(?P<a>x{2000})", "repetition"), (r"(?P<a>\C)", "half a character"),
    ("(?P<a>" + "x" * MAX_PATTERN, "longer than"), ("(?P<a>\ud800)", "no regular expression")])
def test_what_cannot_be_searched_for_in_linear_time_is_refused_with_the_reason(pattern: str, why: str) -> None:
    with pytest.raises(Invalid, match=why) as caught:
        Pattern(pattern)
    assert caught.value.remedy
