"""Whether a model got worse than it was: its metric over the newest labelled predictions, and a stated test of chance.

Quality is lost when both hold: the metric is worse than the reference by more than `drop` (absolute; a share of the
reference for mse, rmse and mae), and the difference is not chance. Chance is judged one-sided at ALPHA, which is small
because the test is repeated with every new label:
- accuracy, precision, recall, f1: two-proportion z test, pooled, over the answers the metric is a share of;
- log_loss, mse, rmse, mae, r2: z test of the mean loss of a row against the reference's, with the window's spread;
- roc_auc: z test with the standard error of Hanley and McNeil.
"""

import math
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from services.watchdog.core.inputs import Judged
from services.watchdog.core.thresholds.limits import QualityRule

# One false alarm in a thousand looks, and a look only counts once the effect itself is large.
ALPHA = 0.001
_Z = 3.0902

LOWER_IS_BETTER = frozenset({"log_loss", "mse", "rmse", "mae"})
RELATIVE = frozenset({"mse", "rmse", "mae"})
SHARES = frozenset({"accuracy", "precision", "recall", "f1"})
# More rows add no power to the test, only work to each look.
MAX_WINDOW = 5_000
# A probability of exactly 0 would make one wrong row an infinite loss.
_EPSILON = 1e-15


@dataclass(frozen=True, slots=True)
class Measure:
    """A metric over rows: its value, how many rows carry it, and the standard error where it is no share."""

    value: float
    rows: float
    error: float = 0.0


@dataclass(frozen=True, slots=True)
class Reference:
    """What a version is held to: what it reached when it was published (or in its own first window), or what the
    champion before it reached lately; and on how many rows."""

    value: float
    rows: int
    told: str = "when published"


@dataclass(slots=True)
class Window:
    """The newest labelled predictions of one version under one rule."""

    rule: QualityRule
    rows: deque[Judged] = field(init=False)
    seen: int = 0
    first: Reference | None = None

    def __post_init__(self) -> None:
        self.rows = deque(maxlen=min(self.rule.window, MAX_WINDOW))

    def add(self, row: Judged) -> None:
        self.rows.append(row)
        self.seen += 1
        if self.first is None and len(self.rows) == self.rows.maxlen:
            found = measure(self.rule.metric, self.rows)
            self.first = Reference(found.value, len(self.rows)) if found is not None else None

    def enough(self) -> bool:
        return len(self.rows) >= min(self.rule.min_labels, self.rows.maxlen or 1)


@dataclass(frozen=True, slots=True)
class Loss:
    """What a window says: `lost`, and the figures for a person."""

    lost: bool
    value: float
    reference: float
    rows: int
    told: str

    def text(self, metric: str) -> str:
        return f"{metric} {self.value:.3f} over {self.rows} labelled predictions, {self.reference:.3f} {self.told}"


def reached(window: Window) -> Reference | None:
    """What the window's version does lately, as what its successor is held to; None while too few labels say it."""
    found = measure(window.rule.metric, window.rows) if window.enough() else None
    if found is None or not math.isfinite(found.value):
        return None
    return Reference(found.value, len(window.rows), "of the version before")


def stricter(metric: str, one: Reference | None, other: Reference | None) -> Reference | None:
    """The better of both; the other where one is not known."""
    if one is None or other is None:
        return one or other
    first = one.value < other.value if metric in LOWER_IS_BETTER else one.value > other.value
    return one if first or one.value == other.value else other


def judge(window: Window, published: Reference | None) -> Loss | None:
    """None while there are too few labels, no reference, or the metric is not defined on these rows."""
    reference = published or window.first
    if reference is None or not window.enough():
        return None
    metric = window.rule.metric
    found = measure(metric, window.rows)
    if found is None or not math.isfinite(found.value):
        return None
    worse_by = found.value - reference.value if metric in LOWER_IS_BETTER else reference.value - found.value
    drop = window.rule.drop * (abs(reference.value) if metric in RELATIVE else 1.0)
    lost = worse_by > drop and _z(metric, found, reference, worse_by) > _Z
    return Loss(lost, found.value, reference.value, len(window.rows), reference.told)


def measure(metric: str, rows: Sequence[Judged] | deque[Judged]) -> Measure | None:
    """The metric over `rows`, defined as the trainer defines it; None where it is not defined."""
    if metric in SHARES:
        return _share(metric, rows)
    if metric == "roc_auc":
        return _roc_auc(rows)
    losses = [loss for row in rows if (loss := _row_loss(metric, row)) is not None]
    if not losses:
        return None
    mean = math.fsum(losses) / len(losses)
    spread = math.fsum((loss - mean) ** 2 for loss in losses) / len(losses)
    error = math.sqrt(spread / len(losses))
    if metric == "rmse":
        root = math.sqrt(mean)
        # The error of a root, to first order.
        return Measure(root, len(losses), error / (2 * root) if root else 0.0)
    if metric == "r2":
        truths = [row.truth for row in rows if isinstance(row.truth, float)]
        centre = math.fsum(truths) / len(truths)
        variance = math.fsum((truth - centre) ** 2 for truth in truths) / len(truths)
        return Measure(1 - mean / variance, len(losses), error / variance) if variance > 0 else None
    return Measure(mean, len(losses), error)


def _z(metric: str, found: Measure, reference: Reference, worse_by: float) -> float:
    if metric in SHARES:
        pooled = (found.value * found.rows + reference.value * reference.rows) / (found.rows + reference.rows)
        error = math.sqrt(pooled * (1 - pooled) * (1 / found.rows + 1 / max(reference.rows, 1)))
    else:
        error = found.error
    return worse_by / error if error > 0 else math.inf


def _row_loss(metric: str, row: Judged) -> float | None:
    if metric == "log_loss":
        return None if row.chance is None else -math.log(min(1.0, max(row.chance, _EPSILON)))
    if isinstance(row.truth, str) or isinstance(row.answer, str):
        return None
    difference = row.answer - row.truth
    return abs(difference) if metric == "mae" else difference * difference


def _share(metric: str, rows: Sequence[Judged] | deque[Judged]) -> Measure | None:
    pairs = Counter((str(row.answer), str(row.truth)) for row in rows)
    total = pairs.total()
    if not total:
        return None
    if metric == "accuracy":
        return Measure(sum(count for (answer, truth), count in pairs.items() if answer == truth) / total, total)
    classes = sorted({label for pair in pairs for label in pair})
    if len(classes) <= 2:
        # Two classes: the second is the one that is looked for, as at publication.
        return _of_class(metric, pairs, classes[-1])
    parts = [_of_class(metric, pairs, one).value for one in classes]
    return Measure(math.fsum(parts) / len(parts), total)


def _of_class(metric: str, pairs: Counter[tuple[str, str]], one: str) -> Measure:
    right = pairs[(one, one)]
    said = sum(count for (answer, _), count in pairs.items() if answer == one)
    true = sum(count for (_, truth), count in pairs.items() if truth == one)
    carrying = {"precision": said, "recall": true}.get(metric, (said + true) / 2)
    return Measure(right / carrying if carrying else 0.0, max(carrying, 1.0))


def _roc_auc(rows: Sequence[Judged] | deque[Judged]) -> Measure | None:
    scored = [(row.score, str(row.truth)) for row in rows if row.score is not None]
    classes = sorted({truth for _, truth in scored})
    if len(classes) != 2:
        return None
    above = sorted(score for score, truth in scored if truth == classes[1])
    below = sorted(score for score, truth in scored if truth == classes[0])
    area = _chance_above(above, below)
    first, second = area / (2 - area), 2 * area * area / (1 + area)
    variance = (area * (1 - area) + (len(above) - 1) * (first - area * area)
                + (len(below) - 1) * (second - area * area)) / (len(above) * len(below))
    return Measure(area, len(scored), math.sqrt(max(variance, 0.0)))


def _chance_above(above: list[float], below: list[float]) -> float:
    """Share of pairs in which the positive row has the higher score; ties count half. Both lists are sorted."""
    wins, smaller, equal_to = 0.0, 0, 0
    for score in above:
        while smaller < len(below) and below[smaller] < score:
            smaller += 1
        equal_to = max(equal_to, smaller)
        while equal_to < len(below) and below[equal_to] == score:
            equal_to += 1
        wins += smaller + (equal_to - smaller) / 2
    return wins / (len(above) * len(below))
