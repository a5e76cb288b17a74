"""Which pictures a report has: file name to PNG, drawn by matplotlib on its Agg canvas, without a window or pyplot.

matplotlib takes a second to load, so nothing but a run's process imports this. The same report gives the same bytes.
"""

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

SIZE_INCHES, DOTS_PER_INCH = (5.6, 4.0), 110
# Fields, classes and letters beyond these are in the figures.
MAX_BARS, MAX_CLASSES, MAX_LABEL = 20, 20, 24
_GREY, _HALF = "#9a9a9a", 0.5
# Counts in the cells of a larger matrix could not be read.
_MAX_COUNTED = 12


def draw(report: Mapping[str, Any]) -> dict[str, bytes]:
    """Pictures of all that the report holds, by file name."""
    found: dict[str, bytes] = {}
    if len(report.get("losses", {}).get("training", [])) > 1:
        found["learning.png"] = _learning(report["losses"])
    if len(report.get("stream", {}).get("course", [])) > 1:
        found["course.png"] = _course(report["stream"]["course"])
    if "confusion" in report and len(report["classes"]) <= MAX_CLASSES:
        found["confusion.png"] = _confusion(report["classes"], report["confusion"])
    if report.get("roc"):
        found["roc.png"] = _curves("ROC", report["roc"], ("false positive rate", "true positive rate"), "area")
    if report.get("precision_recall"):
        found["precision_recall.png"] = _curves("Precision and recall", report["precision_recall"],
                                                ("recall", "precision"), "average")
    if "calibration" in report:
        found["calibration.png"] = _calibration(report["calibration"]["bins"])
    if "answers" in report:
        found["answers.png"] = _answers(report["answers"])
    if report.get("importance"):
        found["importance.png"] = _importance(report["importance"], report["metric"])
    return found


def _framed(title: str, x_label: str, y_label: str, *, height: float = SIZE_INCHES[1], left: float = 0.14,
            bottom: float = 0.13) -> tuple[Figure, Axes]:
    """`left` and `bottom` are shares of the picture for names beside its axes: asking matplotlib draws all twice."""
    figure = Figure(figsize=(SIZE_INCHES[0], height), dpi=DOTS_PER_INCH)
    FigureCanvasAgg(figure)
    figure.subplots_adjust(left=left, right=0.97, bottom=bottom, top=1 - 0.34 / height)
    axes = figure.add_subplot()
    axes.set_title(title)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    return figure, axes


def _png(figure: Figure) -> bytes:
    sink = io.BytesIO()
    with warnings.catch_warnings():
        # A class may be named in letters that no font here has; its box says enough.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(sink, format="png", metadata={"Software": None})
    return sink.getvalue()


def _learning(losses: Mapping[str, Sequence[float]]) -> bytes:
    figure, axes = _framed("Learning", "epoch", "loss")
    for name, values in losses.items():
        axes.plot(range(1, len(values) + 1), values, label=name)
    axes.legend()
    return _png(figure)


def _course(points: Sequence[Mapping[str, float]]) -> bytes:
    """The learner's figure over the newest rows, at each place of the stream, beside the plainest answers' there."""
    name = "accuracy" if "fading_accuracy" in points[0] else "rmse"
    figure, axes = _framed("Course of the stream", "rows", f"{name} of about the thousand rows before")
    plainest = "the commonest answer so far" if name == "accuracy" else "the mean so far"
    for kind, what, style in (("", "this learner", "-"), ("baseline_", plainest, "--"),
                              ("last_value_", "the label before", ":")):
        known = [one for one in points if f"{kind}fading_{name}" in one]
        axes.plot([one["rows"] for one in known], [one[f"{kind}fading_{name}"] for one in known], label=what,
                  linestyle=style, color=_GREY if kind else None)
    axes.legend()
    return _png(figure)


def _confusion(classes: Sequence[str], counts: Sequence[Sequence[int]]) -> bytes:
    """True classes down, answered ones across; darker where there is more of the row."""
    figure, axes = _framed("Confusion on held-out rows", "answered", "true", left=0.3, bottom=0.32)
    shares = [[count / max(1, sum(row)) for count in row] for row in counts]
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    names = [_plain(one) for one in classes]
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    if len(names) <= _MAX_COUNTED:
        for down, row in enumerate(counts):
            for across, count in enumerate(row):
                axes.text(across, down, str(count), ha="center", va="center",
                          color="white" if shares[down][across] > _HALF else "black")
    return _png(figure)


def _curves(title: str, curves: Sequence[Mapping[str, Any]], labels: tuple[str, str], what: str) -> bytes:
    figure, axes = _framed(title, *labels)
    for one in curves:
        axes.plot(one["x"], one["y"], label=f"{_plain(one['name'])} ({what} {one['area']:.3f})")
    if title == "ROC":
        axes.plot((0, 1), (0, 1), linestyle="--", color=_GREY, label="chance")
    axes.set_ylim(-0.02, 1.02)
    axes.legend(fontsize="small")
    return _png(figure)


def _calibration(bins: Sequence[Mapping[str, Any]]) -> bytes:
    figure, axes = _framed("Calibration", "probability said", "share true")
    axes.plot([one["said"] for one in bins], [one["true"] for one in bins], marker="o", label="model")
    axes.plot((0, 1), (0, 1), linestyle="--", color=_GREY, label="perfect")
    axes.legend()
    return _png(figure)


def _answers(answers: Mapping[str, Sequence[float]]) -> bytes:
    figure, axes = _framed("Answers on held-out rows", "true", "answered")
    ends = (min(*answers["true"], *answers["said"]), max(*answers["true"], *answers["said"]))
    axes.scatter(answers["true"], answers["said"], s=10, alpha=_HALF)
    axes.plot(ends, ends, linestyle="--", color=_GREY, label="perfect")
    axes.legend()
    return _png(figure)


def _importance(importance: Sequence[Mapping[str, Any]], metric: str) -> bytes:
    """The most important above: what is lost without a field, else how far it moves answers."""
    shown = importance[:MAX_BARS][::-1]
    dropped = any(one["drop"] is not None for one in shown)
    height = 1.2 + 0.24 * len(shown)
    figure, axes = _framed("What it looks at", f"{metric} lost when the field is shuffled" if dropped
                           else "mean absolute attribution", "", height=height, left=0.36, bottom=0.6 / height)
    axes.barh([_plain(one["field"]) for one in shown], [one["drop" if dropped else "moves"] or 0.0 for one in shown],
              xerr=[one["spread"] or 0.0 for one in shown] if dropped else None)
    return _png(figure)


def _plain(text: str) -> str:
    """One line, cut short, and without the meaning that a dollar has to matplotlib."""
    kept = "".join(one if one.isprintable() else " " for one in text)
    return (kept if len(kept) <= MAX_LABEL else kept[:MAX_LABEL - 1] + "…").replace("$", r"\$")
