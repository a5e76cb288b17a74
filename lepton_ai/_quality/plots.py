"""Pictures of data quality as SVG that takes its text colour from the page, so that it is read in light and in dark."""

import io
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

import matplotlib
from matplotlib import dates
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lepton_ai._quality.history import FieldSum, History

BLUE, ORANGE, GREEN, PURPLE, RED, GREY = "#3b82c4", "#e07b39", "#2f9e77", "#9a78cc", "#d1495b", "#8a8f98"
LINES = (BLUE, ORANGE, GREEN, PURPLE, RED, GREY)
MOST_FIELDS = 12
_DATES: Any = dates  # which is not typed
MOST_LINES = 5
# Written in place of the text's colour and taken out again.
_INK = "#010203"
_STYLE: dict[str, Any] = {
    "text.color": _INK, "axes.edgecolor": _INK, "axes.labelcolor": _INK, "xtick.color": _INK, "ytick.color": _INK,
    "axes.grid": True, "grid.color": GREY, "grid.alpha": 0.3, "grid.linewidth": 0.6, "axes.spines.top": False,
    "axes.spines.right": False, "font.size": 9, "svg.fonttype": "none", "legend.frameon": False,
    "axes.titlesize": 10, "axes.titlelocation": "left",
    # Names of fields are not formulas.
    "text.parse_math": False,
}


def drawn(name: str, alt: str, width: float, height: float, draw: Callable[[Figure], None]) -> str:
    """The picture as an `svg` element of its own; `name` keeps its inner names apart from those of others."""
    style: Any = {**_STYLE, "svg.hashsalt": name}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(width, height), layout="constrained")
        figure.patch.set_alpha(0)
        draw(figure)
        for axes in figure.axes:
            axes.patch.set_alpha(0)
            axes.set_axisbelow(True)
        held = io.StringIO()
        figure.savefig(held, format="svg", metadata={"Date": None})
    svg = held.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg"):], count=1, flags=re.DOTALL)
    svg = svg.replace(_INK, "currentColor")
    svg = re.sub(r'(id="|url\(#|href="#)', lambda found: f"{found[1]}{name}-", svg)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{_attribute(alt)}" data-plot="{name}" ', 1)


def events(told: History) -> str:
    """Events by what became of them, by interval."""
    shown = [(what, told.series(what)) for what in ("accepted", "rejected", "duplicates", "late")
             if what == "accepted" or told.total(what)]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for (what, counts), colour in zip(shown, (BLUE, RED, PURPLE, ORANGE), strict=False):
            _line(axes, told, counts, colour, what)
        _timed(axes, told, f"events in {told.interval}")
        axes.set_ylim(bottom=0)
        _legend(figure, axes)
    said = ", ".join(f"{sum(counts)} {what}" for what, counts in shown)
    return drawn("events", f"Events over time: {said}.", 8.6, 2.6, draw)


def bad_values(told: History, fields: Sequence[FieldSum]) -> str:
    """Share of missing and of invalid values, by interval, of the `fields` with most of them."""
    worst = sorted(fields, key=lambda one: -one.bad)[:MOST_LINES]

    def draw(figure: Figure) -> None:
        for place, what in enumerate(("missing", "invalid"), start=1):
            axes = figure.add_subplot(1, 2, place, title=what)
            for one, colour in zip(worst, LINES, strict=False):
                shares = [None if share is None else 100 * share for share in told.share(one.name, what)]
                _line(axes, told, shares, colour, _short(one.name))
            _timed(axes, told, "percent of values" if place == 1 else "")
            axes.set_ylim(bottom=0, top=max(1.0, axes.get_ylim()[1]))
        _legend(figure, figure.axes[0])
    said = ", ".join(f"{one.name} {one.counts['missing']} missing and {one.counts['invalid']} invalid" for one in worst)
    return drawn("bad-values", f"Missing and invalid values over time: {said or 'none'}.", 8.6, 2.8, draw)


def bands(told: History, fields: Sequence[FieldSum]) -> str:
    """Median and quantile bands over time, a small picture for each number."""
    def one(axes: Axes, field: FieldSum) -> None:
        times = _days(told.times)
        told_by_step = [(seen or {}).get("quantiles") or [float("nan")] * 7 for seen in told.of_field(field.name)]
        ranks = list(zip(*told_by_step, strict=True))
        axes.fill_between(times, ranks[1], ranks[5], color=BLUE, alpha=0.18, linewidth=0)
        axes.fill_between(times, ranks[2], ranks[4], color=BLUE, alpha=0.38, linewidth=0)
        axes.plot(times, ranks[3], color=BLUE, marker=_marker(times), linewidth=1.6)
        _timed(axes, told, "")
    return _grid("bands", f"Median, middle half and middle nine tenths over time of {_names(fields)}.", fields, one)


def histograms(fields: Sequence[FieldSum]) -> str:
    """The newest histogram of each number; the two tails beyond the outermost percentiles are told as text."""
    def one(axes: Axes, field: FieldSum) -> None:
        edges, counts = field.latest["histogram"]["edges"], field.latest["histogram"]["counts"]
        below, above = _tails(field)
        inner = slice(1 if below else 0, len(counts) - (1 if above else 0))
        widths = [high - low for low, high in pairwise(edges)]
        if max(widths) <= 0:
            axes.bar([0], counts, color=BLUE)
            axes.set_xticks([0], [f"{edges[0]:.6g}"])
            return
        axes.bar(edges[:-1][inner], counts[inner], widths[inner], align="edge", color=BLUE, alpha=0.85)
        if below or above:
            axes.set_xlabel("1 % each: " + ", ".join(text for text in (below, above) if text), fontsize=7)
    return _grid("histograms", f"Histograms of the newest values of {_names(fields)}.", fields, one)


def frequent(fields: Sequence[FieldSum]) -> str:
    """The most frequent values of each category in its newest interval."""
    def one(axes: Axes, field: FieldSum) -> None:
        top = list(reversed(field.latest["top"][:6]))
        axes.barh([_short(str(value["value"]), 18) for value in top], [value["count"] for value in top], color=GREEN)
        axes.grid(visible=False, axis="y")
    alt = "Most frequent values: " + "; ".join(
        f"{one.name} {one.latest['top'][0]['value']}" for one in fields[:MOST_FIELDS])
    return _grid("frequent", f"{alt}.", fields, one)


def reasons(found: Sequence[tuple[str, int]]) -> str:
    """Why events were rejected."""
    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        shown = list(reversed(found[:10]))
        bars = axes.barh([code for code, _ in shown], [count for _, count in shown], color=RED, height=0.6)
        axes.bar_label(bars, padding=4)
        axes.grid(visible=False, axis="y")
        axes.margins(x=0.12)
    said = ", ".join(f"{code} {count}" for code, count in found[:10])
    return drawn("reasons", f"Reasons of rejection: {said}.", 8.6, 0.8 + 0.32 * min(len(found), 10), draw)


def sources(found: Sequence[tuple[str, dict[str, int]]]) -> str:
    """Accepted and rejected events by source."""
    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        shown = list(reversed(found[:12]))
        names = [_short(name, 28) for name, _ in shown]
        accepted = [counts["accepted"] for _, counts in shown]
        axes.barh(names, accepted, color=BLUE, height=0.6, label="accepted")
        axes.barh(names, [counts["rejected"] for _, counts in shown], left=accepted, color=RED, height=0.6,
                  label="rejected")
        axes.grid(visible=False, axis="y")
        _legend(figure, axes)
    said = ", ".join(f"{name} {counts['accepted']} accepted and {counts['rejected']} rejected"
                     for name, counts in found[:12])
    return drawn("sources", f"Events by source: {said}.", 8.6, 1.1 + 0.32 * min(len(found), 12), draw)


def _tails(field: FieldSum) -> tuple[str, str]:
    """The first and the last bin as text, where they reach beyond the outermost percentiles."""
    edges, quantiles = field.latest["histogram"]["edges"], field.latest["quantiles"]
    if len(edges) < 4:
        return "", ""
    below = f"{edges[0]:.3g} to {edges[1]:.3g}" if edges[0] < quantiles[0] else ""
    above = f"{edges[-2]:.3g} to {edges[-1]:.3g}" if edges[-1] > quantiles[-1] else ""
    return below, above


def _grid(name: str, alt: str, fields: Sequence[FieldSum], draw_one: Callable[[Axes, FieldSum], None]) -> str:
    shown = fields[:MOST_FIELDS]
    rows = -(-len(shown) // 3)

    def draw(figure: Figure) -> None:
        for place, field in enumerate(shown, start=1):
            axes = figure.add_subplot(rows, 3, place, title=_short(field.name))
            axes.tick_params(labelsize=7)
            draw_one(axes, field)
    return drawn(name, alt, 8.6, 0.3 + 1.75 * rows, draw)


def _line(axes: Axes, told: History, values: Sequence[float | None], colour: str, label: str) -> None:
    numbers = [float("nan") if value is None else value for value in values]
    axes.plot(_days(told.times), numbers, color=colour, label=label, linewidth=1.6, marker=_marker(numbers))


def _timed(axes: Axes, told: History, label: str) -> None:
    begin, end = _days([told.begin, told.end])
    axes.set_xlim(begin - 0.01 * (end - begin), end)
    locator: Any = _DATES.AutoDateLocator(minticks=2, maxticks=5)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(_DATES.ConciseDateFormatter(locator))
    axes.set_ylabel(label)


def _legend(figure: Figure, axes: Axes) -> None:
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper right", ncols=5, fontsize=8)


def _marker(points: Sequence[float]) -> str:
    """A step between two without values is no line, so it needs a point."""
    return "." if len(points) <= 60 else ""


def _days(times: Sequence[datetime]) -> list[float]:
    return [float(day) for day in _DATES.date2num(list(times))]


def _names(fields: Sequence[FieldSum]) -> str:
    return ", ".join(one.name for one in fields[:MOST_FIELDS])


def _short(text: str, most: int = 30) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
