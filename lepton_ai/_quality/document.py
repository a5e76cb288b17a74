"""The report as one HTML document: figures first, then pictures, then the table they were drawn from."""

from collections.abc import Callable, Sequence
from datetime import datetime
from html import escape

from lepton_ai._quality import plots
from lepton_ai._quality.history import FieldSum, History

_CSS = """
:root { color-scheme: light dark; --ground: #ffffff; --ink: #1d2430; --soft: #5b6472; --line: #d8dde4; --card: #f5f7fa }
@media (prefers-color-scheme: dark) {
  :root { --ground: #14181f; --ink: #e6eaf0; --soft: #a3adba; --line: #323a46; --card: #1c222b }
}
* { box-sizing: border-box }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 60rem; background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif }
h1 { font-size: 1.6rem; margin: 0 } h2 { font-size: 1.1rem; margin: 2.2rem 0 .4rem }
p { margin: .2rem 0 .8rem; color: var(--soft); max-width: 46rem }
svg { display: block; width: 100%; min-width: 34rem; height: auto; color: var(--ink) }
svg text { font-family: system-ui, sans-serif }
figure { margin: 0; overflow-x: auto }
.tiles { display: grid; gap: .6rem; grid-template-columns: repeat(auto-fit, minmax(7.5rem, 1fr)); margin: 1.2rem 0;
  padding: 0; list-style: none }
.tiles li { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .6rem .8rem }
.tiles b { display: block; font-size: 1.3rem; font-variant-numeric: tabular-nums } .tiles span { color: var(--soft) }
.wide { overflow-x: auto } table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { padding: .35rem .45rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap }
th { color: var(--soft); font-weight: 600 } th:first-child, td:first-child { text-align: left }
"""
_COLUMNS = ("field", "present", "missing", "invalid", "outliers", "repaired", "distinct", "5 %", "median", "95 %")
_TILES = (("accepted", "accepted"), ("rejected", "rejected"), ("duplicates", "duplicates by id"),
          ("content_duplicates", "duplicates by content"), ("late", "late"), ("future", "future"),
          ("quarantined", "quarantined"))


def report(told: History, made_at: datetime) -> str:
    """HTML with everything inside. Every section is there; one without data says so."""
    fields = told.fields()
    numbers = [one for one in fields if one.is_numeric]
    bad = [one for one in fields if one.bad]
    step = {"1m": "minute", "1h": "hour"}.get(told.interval, told.interval)
    values = [one for one in fields if one.latest.get("top")]
    reasons, sources = told.reasons(), told.sources()
    sections = [
        _section("events", "Events", f"What became of them, {step} by {step}.",
                 True, lambda: plots.events(told)),
        _section("bad-values", "Missing and invalid values",
                 "The fields with most of them. Missing is told of accepted rows, invalid of rejected events.",
                 bool(bad), lambda: plots.bad_values(told, bad)),
        _section("bands", "Quantiles over time",
                 "Line: median. Dark band: the middle half. Light band: from 5 % to 95 %.",
                 bool(numbers), lambda: plots.bands(told, numbers)),
        _section("histograms", "Histograms", f"Of the newest {step} with values, from its sketch.",
                 bool(numbers), lambda: plots.histograms(numbers)),
        _section("frequent", "Frequent values", f"Of categories, in the newest {step} with values.",
                 bool(values), lambda: plots.frequent(values)),
        _section("reasons", "Top reasons", "Why events became dead letters.", bool(reasons),
                 lambda: plots.reasons(reasons)),
        _section("sources", "Sources", "Who sent them.", bool(sources), lambda: plots.sources(sources)),
        _table(fields),
    ]
    name = escape(told.pipeline)
    about = (f"{told.begin:%Y-%m-%d %H:%M} to {told.end:%Y-%m-%d %H:%M} UTC, {len(told.summaries)} steps of "
             f"{told.interval}; made {made_at:%Y-%m-%d %H:%M} UTC.")
    return (f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>Data quality of {name}</title>\n<style>{_CSS}</style>\n</head>\n<body>\n<main>\n"
            f"<h1>Data quality of {name}</h1>\n<p>{about}</p>\n{_tiles(told)}\n" + "\n".join(sections)
            + "\n</main>\n</body>\n</html>\n")


def _tiles(told: History) -> str:
    always = ("accepted", "rejected", "duplicates")
    shown = [(what, text) for what, text in _TILES if what in always or told.total(what)]
    items = "".join(f"<li><b>{told.total(what):,}</b><span>{text}</span></li>" for what, text in shown)
    return f'<ul class="tiles">{items}</ul>'


def _section(name: str, title: str, about: str, has_data: bool, draw: Callable[[], str]) -> str:
    inner = f"<figure>{draw()}</figure>" if has_data else "<p>Nothing of the kind in this span.</p>"
    return f'<section id="{name}">\n<h2>{title}</h2>\n<p>{about}</p>\n{inner}\n</section>'


def _table(fields: Sequence[FieldSum]) -> str:
    head = "".join(f'<th scope="col">{column}</th>' for column in _COLUMNS)
    rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in _cells(one)) + "</tr>" for one in fields)
    return ('<section id="fields">\n<h2>Fields</h2>\n<p>Counts over the whole span; distinct values and quantiles of '
            "the newest step, estimated.</p>\n"
            f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>\n</section>')


def _cells(one: FieldSum) -> list[str]:
    quantiles = one.latest.get("quantiles") or []
    ranks = [f"{quantiles[rank]:.4g}" if quantiles else "" for rank in (1, 3, 5)]
    counts = one.counts
    distinct = one.latest.get("distinct")
    missing = f"{counts['missing']:,} ({100 * one.missing_share:.1f} %)" if counts["missing"] else "0"
    return [one.name, f"{counts['present']:,}", missing, f"{counts['invalid']:,}", f"{counts['outliers']:,}",
            f"{counts['repaired']:,}", f"{distinct:,.0f}" if distinct is not None else "", *ranks]
