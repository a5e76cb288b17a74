"""`lepton quality` shows what the gateway tells, and writes a report that needs nothing beside it."""

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from lepton.errors import Missing, Refused
from lepton_ai._quality import plots
from lepton_ai._quality.document import report
from lepton_ai._quality.history import history
from lepton_ai.cli.app import app
from tests.unit.lepton_ai.doors import KEY_ID, SECRET, Desk, open_door

Lepton = Callable[..., Result]
HOSTILE = '<script>alert("x")</script> $\\frac{a}{0}$ & co'
SECTIONS = {"events", "bad-values", "bands", "histograms", "frequent", "reasons", "sources", "fields"}


def field(name: str, **told: Any) -> dict[str, Any]:
    return {"field": name, "present": 90, "missing": 0, "invalid": 0, "outliers": 0, "repaired": 0, "quantiles": [],
            "top": [], "sketched": 0, **told}


def number(name: str, shift: float = 0.0, **told: Any) -> dict[str, Any]:
    edges = [shift + edge for edge in (0.0, 1.0, 2.0, 4.0, 9.0)]
    usual = {"quantiles": [shift + rank for rank in (0.1, 0.5, 1, 2, 3, 6, 8)], "distinct": 41.7, "sketched": 90,
             "histogram": {"edges": edges, "counts": [1, 50, 38, 1]}}
    return field(name, **{**usual, **told})


def minute(place: int, **told: Any) -> dict[str, Any]:
    start = f"2026-01-31T12:{place:02d}:00Z"
    return {"pipeline": "shop", "spec_version": 1, "instance": "", "interval_start": start,
            "interval_end": f"2026-01-31T12:{place + 1:02d}:00Z", "accepted": 100 + place, "rejected": 5,
            "duplicates": 2, "content_duplicates": 1, "late": 3, "future": 0, "quarantined": 0,
            "rejections": [{"code": "wrong_type", "count": 4}, {"code": "missing", "count": 1}],
            "sources": [{"source": HOSTILE, "accepted": 100, "rejected": 5, "outliers": 0, "missing": 10}],
            "fields": [
                number("price", place, missing=10, invalid=4, repaired=2), number(HOSTILE),
                field("colour", distinct=2.0, top=[{"value": "red", "count": 60}, {"value": HOSTILE, "count": 30}])],
            **told}


class Page(HTMLParser):
    """What of a report a reader, or a reader's screen reader, comes across."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sections: dict[str, list[str]] = {}
        self.pictures: dict[str, str] = {}
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.cells: list[str] = []
        self._in: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        self.tags.add(tag)
        self._in.append(tag)
        if tag == "section":
            self.sections[told["id"] or ""] = []
        if tag == "svg":
            assert told["role"] == "img"
            self.pictures[told["data-plot"] or ""] = told["aria-label"] or ""
        if told.get("id"):
            self.ids.append(told["id"] or "")
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_data(self, data: str) -> None:
        if self._in and self._in[-1] == "td":
            self.cells.append(data)


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def lepton(desk: Desk) -> Iterator[Lepton]:
    with open_door(desk) as credentials:
        where = ["--key", KEY_ID, "--secret", SECRET, "--region", credentials.rest]

        def run(*arguments: str) -> Result:
            done = CliRunner().invoke(app, [*where, *arguments])
            if done.exception is not None and not isinstance(done.exception, SystemExit):
                raise done.exception
            return done
        yield run


def test_quality_is_shown_by_step_and_by_field(lepton: Lepton, desk: Desk) -> None:
    desk.quality = [minute(1), minute(0)]
    shown = lepton("quality", "show", "shop").stdout
    assert re.search(r"2026-01-31T12:01:00Z +101 +5 +2 +1 +3 +0 +0 +wrong_type=4 missing=1", shown)
    assert re.search(r"price +90 +10 +4 +0 +2 +42 +1\.5 +3 +7", shown)
    assert "red=60" in shown
    assert json.loads(lepton("quality", "show", "shop", "--json").stdout) == desk.quality
    assert "--interval" in lepton("quality", "show", "--help").stdout


def test_the_report_has_every_section_and_every_picture(lepton: Lepton, desk: Desk, tmp_path: Path) -> None:
    desk.quality = [minute(place) for place in (2, 0, 1)]
    said = lepton("quality", "report", "shop", "--out", str(tmp_path / "report.html")).stdout
    assert "report.html: 3 steps of 1m" in said
    page = Page((tmp_path / "report.html").read_text("utf-8"))
    assert set(page.sections) == SECTIONS
    assert set(page.pictures) == SECTIONS - {"fields"}
    assert "303 accepted" in page.pictures["events"]
    assert "price 30 missing and 12 invalid" in page.pictures["bad-values"]
    assert "wrong_type 12, missing 3" in page.pictures["reasons"]
    assert page.cells[:6] == ["price", "270", "30 (10.0 %)", "12", "0", "6"]
    # What a step of 12:02 says, the newest.
    assert page.cells[7:10] == ["2.5", "4", "8"]


def test_the_report_needs_nothing_else_and_is_harmed_by_no_name(tmp_path: Path) -> None:
    text = report(history("shop", "1m", [minute(0)]), datetime(2026, 1, 31, tzinfo=UTC))
    page = Page(text)
    assert "script" not in page.tags
    assert all(link.startswith("#") for link in page.links)
    assert {"link", "img", "iframe"}.isdisjoint(page.tags) and "url(http" not in text and "@import" not in text
    assert len(page.ids) == len(set(page.ids)), "two pictures share an inner name"
    # Text in pictures has the colour of the page's, in light and in dark.
    assert "prefers-color-scheme: dark" in text and "currentColor" in text and "#010203" not in text


def test_a_span_of_little_is_told_without_pictures_of_nothing() -> None:
    bare = minute(0, rejections=[], sources=[], fields=[])
    page = Page(report(history("shop", "1h", [bare]), datetime(2026, 1, 31, tzinfo=UTC)))
    assert set(page.sections) == SECTIONS
    assert set(page.pictures) == {"events"}


def test_a_minute_without_events_is_told_as_one() -> None:
    told = history("shop", "1m", [minute(3), minute(0)])
    assert told.series("accepted") == [100, 0, 0, 103]
    assert told.share("price", "missing")[1] is None
    assert set(Page(report(told, datetime(2026, 1, 31, tzinfo=UTC))).pictures) == SECTIONS - {"fields"}


def test_a_tail_is_told_as_text_and_a_value_at_the_edge_is_drawn() -> None:
    flags = {"edges": [0.0, 0.5, 0.75, 1.0], "counts": [60, 0, 40]}
    tailed = number("tailed", quantiles=[1.0, 1.1, 1.2, 2, 3, 3.5, 4])
    fields = [tailed, field("flags", quantiles=[0.0] * 4 + [1.0] * 3, histogram=flags)]
    shown = history("shop", "1m", [minute(0, fields=fields)]).fields()
    assert [plots._tails(one) for one in shown] == [("0 to 1", "4 to 9"), ("", "")]
    assert "1 % each: 0 to 1, 4 to 9" in plots.histograms(shown)


def test_values_that_json_cannot_say_break_no_picture() -> None:
    one_value = {"edges": [1.0, 1.0], "counts": [9]}
    odd = minute(0, fields=[field("x", quantiles=[1.0] * 7, distinct=1.0, histogram=one_value, mean=None)])
    page = Page(report(history("shop", "1m", [odd]), datetime(2026, 1, 31, tzinfo=UTC)))
    assert {"bands", "histograms"} <= set(page.pictures)


def test_without_quality_there_is_no_report(lepton: Lepton, tmp_path: Path) -> None:
    with pytest.raises(Missing, match="nothing is known of the quality of shop"):
        lepton("quality", "report", "shop", "--out", str(tmp_path / "report.html"))
    assert not (tmp_path / "report.html").exists()


def test_a_file_that_cannot_be_written_is_told_in_one_line(lepton: Lepton, desk: Desk, tmp_path: Path) -> None:
    desk.quality = [minute(0)]
    with pytest.raises(Refused, match="cannot be written"):
        lepton("quality", "report", "shop", "--out", str(tmp_path))
