"""The model card: what a person should know of a version before using it, as Markdown with pictures, in one zip.

Its sections follow Mitchell et al., Model Cards for Model Reporting (2019). The same report gives the same bytes.
"""

import io
import json
import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from services.trainer.core.telling.cautions import cautions
from services.trainer.core.telling.pictures import draw

CARD, REPORT = "card.md", "report.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest a zip knows
_MARKS = "\\`*_{}[]<>|#"
_TOLD_ELSEWHERE = ("baseline_", "last_value_", "champion_", "folds_", "fairness_", "prequential_")
_CALIBRATED = frozenset({"calibration_error", "brier"})
MAX_ROWS = 40
"""Lines of one table; the rest is in the report."""


def bundle(report: Mapping[str, Any]) -> bytes:
    """A zip of `card.md`, `report.json` and the pictures."""
    report = _finite({**report, "cautions": [*report["warnings"], *cautions(report)]})
    pictures = draw(report)
    figures = json.dumps(report, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as file:
        for name, content in [(CARD, markdown(report, list(pictures)).encode()), (REPORT, figures.encode()),
                              *sorted(pictures.items())]:
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.external_attr = 0o644 << 16
            file.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return sink.getvalue()


def markdown(report: Mapping[str, Any], pictures: Sequence[str]) -> str:
    """The card's text; it names the pictures that lie beside it."""
    lines = [f"# {plain(report['model'])}: {report['family'].replace('_', ' ')}", "", *_details(report), ""]
    for title, section in (("What to know first", _cautions(report)), ("How good it is", _metrics(report)),
                           ("Over the whole stream", _course(report)),
                           ("Against the champion", _comparison(report)), ("Learnt anew", _folds(report)),
                           ("Where it is better and worse", _slices(report)),
                           ("Between groups", _fairness(report)), ("What it looks at", _importance(report))):
        told = list(section)
        if told:
            lines += [f"## {title}", "", *told, ""]
    shown = {"course.png": "Course of the stream", "confusion.png": "Confusion", "roc.png": "ROC",
             "precision_recall.png": "Precision and recall",
             "calibration.png": "Calibration", "answers.png": "Answers beside what was true",
             "importance.png": "Importance", "learning.png": "Learning"}
    lines += ["## Pictures", ""] if pictures else []
    lines += [f"![{shown[name]}]({name})\n" for name in shown if name in pictures]
    return "\n".join([*lines, "## Where it comes from", "", *_origin(report), ""])


def plain(text: object) -> str:
    """Text from data, in one line and without a meaning to Markdown or HTML."""
    kept = "".join(one if one.isprintable() else " " for one in str(text))
    return "".join(f"\\{one}" if one in _MARKS else one for one in kept)


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """A Markdown table; None is empty, a number has four digits."""
    lines = ["| " + " | ".join(headings) + " |", "|" + " --- |" * len(headings)]
    lines += ["| " + " | ".join(_cell(one) for one in row) + " |" for row in rows[:MAX_ROWS]]
    return lines if len(rows) <= MAX_ROWS else [*lines, "", f"{len(rows) - MAX_ROWS} more are in `{REPORT}`."]


def _details(report: Mapping[str, Any]) -> list[str]:
    what = {"regression": "a number", "classification": "one of " + ", ".join(
        plain(one) for one in report["classes"][:20])}.get(report["task"], report["task"])
    return [f"Answers {what} for `{plain(report['label'])}` from {len(report['fields'])} fields: "
            + ", ".join(plain(one) for one in report["fields"][:MAX_ROWS])
            + (" and others." if len(report["fields"]) > MAX_ROWS else "."), "",
            f"Learnt from {report['train_rows']} rows of a stream, each after it was answered. It is judged on "
            f"{report['held_out_rows']} held-out rows by the answers that were given before their labels were seen; it "
            "has learnt from them since." if "stream" in report else
            f"Learnt from {report['train_rows']} rows, measured on {report['held_out_rows']} others that it never saw."]


def _cautions(report: Mapping[str, Any]) -> list[str]:
    return [f"- {plain(one)}" for one in report["cautions"]]


def _metrics(report: Mapping[str, Any]) -> Iterator[str]:
    metrics, champion = report["metrics"], report["champion_metrics"] or {}
    own = [name for name in metrics if not name.startswith(_TOLD_ELSEWHERE) and name not in _CALIBRATED]
    headings = ["metric", "this version", "always the same answer", "the last value", "champion"]
    rows = [[name, metrics[name], metrics.get(f"baseline_{name}"), metrics.get(f"last_value_{name}"),
             champion.get(name)] for name in own]
    kept = [place for place in range(len(headings)) if place < 2 or any(row[place] is not None for row in rows)]
    yield from table([headings[place] for place in kept], [[row[place] for place in kept] for row in rows])
    if "calibration" in report:
        yield ""
        yield (f"Its probabilities are off by {report['calibration']['error']:.3f} on average (expected calibration "
               f"error; 0 is perfect); Brier score {report['calibration']['brier']:.4g}.")


def _course(report: Mapping[str, Any]) -> Iterator[str]:
    if stream := report.get("stream"):
        yield ("Each row was answered before its label was seen, then learnt from (prequential). Of the newest, a row "
               "counts 0.999 after each further one.")
        yield ""
        found = stream["figures"]
        plainest = "the mean so far" if report["task"] == "regression" else "the commonest answer so far"
        yield from table(["metric", "rows", "this learner", plainest, "the label before"], [
            [name, rows, found[window + name], found.get(f"baseline_{window}{name}"),
             found.get(f"last_value_{window}{name}")]
            for name in ("accuracy", "log_loss", "rmse", "mae") if name in found
            for window, rows in (("", "all"), ("fading_", "the newest"))])
        if stream["times_anew"]:
            yield ""
            yield f"How often rows had moved so far that its experts began anew: {stream['times_anew']}."


def _comparison(report: Mapping[str, Any]) -> Iterator[str]:
    if one := report.get("comparison"):
        yield (f"On the same {report['held_out_rows']} rows its {one['metric']} is {one['candidate']:.4g}, that of "
               f"version {report['champion_version']} is {one['champion']:.4g}: a lead of {one['lead']:.4g} "
               f"(95 % interval {one['low']:.4g} to {one['high']:.4g}).")
        yield ""
        yield (f"The chance that this lead is not above {one['margin']:g} is {one['chance']:.3f} (paired bootstrap, "
               f"one-sided); were both equally good, answers as different as these had a chance of "
               f"{one['paired_chance']:.3f} ({one['paired_test']}, two-sided).")


def _folds(report: Mapping[str, Any]) -> Iterator[str]:
    if folds := report.get("folds"):
        parts = "a random part" if folds["by"] == "chance" else "what came after the rows learnt from"
        yield f"{len(folds['folds'])} times, each with {parts} held out:"
        yield ""
        yield from table(["metric", "mean", "standard error", "least", "most"], [
            [name, mean, error, min(one[name] for one in folds["folds"]), max(one[name] for one in folds["folds"])]
            for name, (mean, error) in folds["summary"].items()])


def _slices(report: Mapping[str, Any]) -> Iterator[str]:
    if slices := report.get("slices"):
        wide = any(one["low"] is not None for one in slices)
        names = ["accuracy", "f1", "log_loss"] if report["classes"] else ["rmse", "mae"]
        yield from table(["field", "value", "rows", *names, *(["95 % of accuracy"] if wide else [])], [
            [plain(one["field"]), plain(one["value"]), one["rows"], *(one["metrics"].get(name) for name in names),
             *([f"{one['low']:.3f} to {one['high']:.3f}"] if wide else [])] for one in slices])


def _fairness(report: Mapping[str, Any]) -> Iterator[str]:
    if fairness := report.get("fairness"):
        gap = fairness["gap"]
        bound = "" if fairness["at_most"] is None else f"; it may be {fairness['at_most']:g}"
        yield (f"The gap by {fairness['criterion'].replace('_', ' ')} is "
               + (f"{gap:.3f}{bound}." if gap is not None else "unknown: too few rows in the groups."))
        yield ""
        names = ["answered", "found", "wrongly", "accuracy"] if report["classes"] else ["error"]
        yield from table(["field", "group", "rows", *names], [
            [plain(one["field"]), plain(one["value"]), one["rows"], *(one["rates"].get(name) for name in names)]
            for one in fairness["groups"]])
        if report["classes"]:
            yield ""
            yield (f"`answered`: share answered {plain(report['classes'][-1])}; `found`: of those that are; `wrongly`: "
                   "of those that are not.")


def _importance(report: Mapping[str, Any]) -> Iterator[str]:
    if ranked := report.get("importance"):
        heads = {"drop": f"{report['metric']} lost without it", "spread": "spread", "moves": "moves the score by"}
        kept = [name for name in heads if any(one[name] is not None for one in ranked)]
        yield from table(["field", *(heads[name] for name in kept)], [
            [plain(one["field"]), *(one[name] for name in kept)] for one in ranked])
        if "stream" in report:
            yield ""
            yield "These are of rows that it has learnt from by now."
        if how := report.get("attribution"):
            yield ""
            empty = ", its series of free length and its texts empty" if "chance" in how else ""
            yield (f"Attributions: {how['method']}, from the average training row{empty}, in {how['unit']}. They add "
                   f"up to the score within {how['error']:.2g} on average. Each answer carries its own where it is "
                   "asked to.")
            if "chance" in how:
                yield f"Orders drawn by chance leave a standard error of {how['chance']:.2g} in what a part did."


def _origin(report: Mapping[str, Any]) -> list[str]:
    rows = [["run", report["run_id"]], ["pipeline", f"{report['pipeline']}, version {report['spec_version']}"],
            ["snapshot", report["snapshot"]], ["seed", report["seed"]],
            ["epochs", None if "stream" in report else report["epochs"]],
            ["learnt on from version", report["parent_version"] or None],
            ["parameters", json.dumps(report["parameters"], sort_keys=True)]]
    return [*table(["", ""], [[name, plain(value)] for name, value in rows if value is not None]), *_ranges(report)]


def _ranges(report: Mapping[str, Any]) -> list[str]:
    """Offsets it learnt from, where rows came of topics."""
    if not report["ranges"]:
        return []
    return ["", "Rows and labels by their offsets:", "", *table(
        ["records", "pipeline", "generation", "partition", "first offset", "next offset"],
        [[plain(one[name]) for name in ("stream", "pipeline", "generation", "partition", "first", "next")]
         for one in report["ranges"]])]


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _finite(value: Any) -> Any:
    """The same, None for numbers that JSON does not know."""
    if isinstance(value, Mapping):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
