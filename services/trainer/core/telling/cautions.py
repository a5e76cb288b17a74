"""What a person should know of a version before trusting it, found in its own figures."""

from collections.abc import Iterator, Mapping
from typing import Any

from lepton.contracts.pipeline_blocks import LOWER_IS_BETTER

# Below this the figures move by several hundredths from one set of rows to the next.
FEW_ROWS = 100
BADLY_CALIBRATED = 0.1
# A slice is called weak when even the best that its rows allow for is below what all rows reach.
MAX_WEAK = 5


def cautions(report: Mapping[str, Any]) -> list[str]:
    """Sentences, the gravest first; none is a good sign."""
    return [*_baseline(report), *_few(report), *_classes(report), *_calibration(report), *_weak(report),
            *_group(report), *_champion(report)]


def _baseline(report: Mapping[str, Any]) -> Iterator[str]:
    metrics = report["metrics"]
    for kind, what in (("baseline_", "always giving the same answer"), ("last_value_", "repeating the last value")):
        for name in ("accuracy", "rmse"):
            mine, theirs = metrics.get(name), metrics.get(kind + name)
            if mine is not None and theirs is not None and (
                    mine >= theirs if name in LOWER_IS_BETTER else mine <= theirs):
                yield f"It is no better than {what}: {name} {mine:.4g} against {theirs:.4g}."
    yield from _course(report)


def _course(report: Mapping[str, Any]) -> Iterator[str]:
    """The same of a stream's newest rows."""
    figures = report.get("stream", {}).get("figures", {})
    for kind, what in (("baseline_", "the commonest answer, or the mean, so far"),
                       ("last_value_", "repeating the label before")):
        for name in ("accuracy", "rmse"):
            mine, theirs = figures.get(f"fading_{name}"), figures.get(f"{kind}fading_{name}")
            if mine is not None and theirs is not None and (
                    mine >= theirs if name in LOWER_IS_BETTER else mine <= theirs):
                yield (f"On the stream's newest rows it is no better than {what}: {name} {mine:.4g} against "
                       f"{theirs:.4g}.")


def _few(report: Mapping[str, Any]) -> Iterator[str]:
    if report["held_out_rows"] < FEW_ROWS:
        yield f"It was measured on {report['held_out_rows']} rows only; its figures are rough."


def _classes(report: Mapping[str, Any]) -> Iterator[str]:
    confusion = report.get("confusion", [])
    for name, row in zip(report["classes"], confusion, strict=bool(confusion)):
        if not sum(row):
            yield f"No held-out row is of class {name}: nothing is known of how it is found."
        elif not any(line[report["classes"].index(name)] for line in confusion):
            yield f"It never answered {name}, which {sum(row)} held-out rows are."


def _calibration(report: Mapping[str, Any]) -> Iterator[str]:
    error = report.get("calibration", {}).get("error", 0.0)
    if error > BADLY_CALIBRATED:
        yield f"Its probabilities are off by {error:.2f} on average: do not read them as chances."


def _weak(report: Mapping[str, Any]) -> Iterator[str]:
    whole = report["metrics"].get("accuracy")
    weak = [one for one in report.get("slices", []) if one["high"] is not None and whole is not None
            and one["high"] < whole]
    for one in sorted(weak, key=lambda one: one["high"])[:MAX_WEAK]:
        yield (f"It is weaker where {one['field']} is {one['value']}: accuracy {one['metrics']['accuracy']:.3f} on "
               f"{one['rows']} rows, {whole:.3f} on all.")


def _group(report: Mapping[str, Any]) -> Iterator[str]:
    fairness = report.get("fairness") or {}
    if fairness and fairness["gap"] is None:
        yield "Too few rows of the declared groups were held out to say whether it treats them alike."
    elif fairness and fairness["at_most"] is not None and fairness["gap"] > fairness["at_most"]:
        yield (f"Groups are {fairness['gap']:.3f} apart by {fairness['criterion'].replace('_', ' ')}; "
               f"{fairness['at_most']:g} was allowed.")


def _champion(report: Mapping[str, Any]) -> Iterator[str]:
    compared = report.get("comparison")
    if compared and compared["low"] <= 0 <= compared["high"]:
        yield "Whether it is better than the champion cannot be told from these rows: the interval holds zero."
