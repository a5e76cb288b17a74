"""Whether a version's answers look worse than those it was published for, while nobody says what was true.

A window of answers looks worse when all three hold: its estimated metric is worse than the reference by more than the
Pipeline's `watch.quality.drop` (and what its probabilities were off at publication, until labels have set them right);
by a one-sided z test at ALPHA not by chance; and it is worse than every window that labels have called well. It is a
symptom when WINDOWS windows show it, one after the other, and labels of that time have not come for `no_labels_s`. Once
as many as `watch.quality.min_labels` of them have, they decide.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from services.watchdog.core.guessing.calibrated import Calibrated
from services.watchdog.core.guessing.guess import Guess
from services.watchdog.core.guessing.losses import Losses
from services.watchdog.core.inputs import Judged, ModelSeen, Predicted, Rules
from services.watchdog.core.symptom import ESTIMATED_LOSS, Symptom
from services.watchdog.core.thresholds.limits import QualityRule

ALPHA = 0.001
_Z = 3.0902
ROWS = 200
WINDOWS = 2
ACCURACY = "accuracy"
NUMBERS = frozenset({"mse", "rmse", "mae", "r2"})


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a window of answers says."""

    metric: str
    guess: Guess
    reference: float
    published: bool
    bad: bool

    def text(self) -> str:
        how = f"calibrated by {self.guess.learnt} labelled ones" if self.guess.learnt else "calibrated at publication"
        return (f"{self.metric} is estimated as {self.guess.value:.3f} over {self.guess.rows} predictions without "
                f"labels ({how}), {self.reference:.3f} {'when published' if self.published else 'with labels'}")


@dataclass(slots=True)
class Estimating:
    """One version's. Of names accuracy is estimated, of numbers mae where it is watched, else rmse."""

    rule: QualityRule
    version: int
    metrics: Mapping[str, float]
    held_out: int
    chances: Calibrated = field(init=False)
    losses: Losses = field(init=False)
    sure: dict[int, int] = field(default_factory=dict)
    numbers: list[float] = field(default_factory=list)
    began: float | None = None
    last: Estimate | None = None
    bad_since: float | None = None
    """When the first of the windows began that look worse without a break."""
    bad: int = 0
    good: int = 0
    labelled: int = 0
    """Labelled predictions that were made since then."""
    labelled_at: float = float("-inf")
    """When the newest labelled prediction was made."""
    worst: float | None = None
    """The worst estimate that labels have called well."""

    def __post_init__(self) -> None:
        self.chances = Calibrated(self.metrics.get("calibration_error"), self.held_out)
        self.losses = Losses("mae" if self.rule.metric == "mae" else "rmse")

    @property
    def metric(self) -> str:
        return self.losses.metric if self.rule.metric in NUMBERS else ACCURACY

    def judged(self, row: Judged, now: float) -> None:
        made = now - row.late_s
        self.labelled_at = max(self.labelled_at, made)
        if self.bad_since is not None and made >= self.bad_since:
            self.labelled += 1
        if row.sure is not None:
            self.chances.learn(row.sure, row.answer == row.truth)
        elif isinstance(row.answer, float) and isinstance(row.truth, float):
            self.losses.learn(row.answer, row.truth)

    def answered(self, seen: Predicted, now: float, well: Callable[[], bool]) -> None:
        """`well`: whether labels that come now say that nothing is lost."""
        if self.began is None:
            self.began = now
        for percent, count in seen.sure:
            self.sure[percent] = self.sure.get(percent, 0) + count
        self.numbers += seen.numbers
        rows = max(ROWS, self.rule.window)
        if len(self.numbers) >= rows or sum(self.sure.values()) >= rows:
            self._turn(self.began, well)
            self.sure, self.numbers, self.began = {}, [], None

    def decided(self) -> bool:
        """Whether labels of the time since it looked worse say how it is."""
        return self.labelled >= min(self.rule.min_labels, self.rule.window)

    def lost(self, now: float, no_labels_s: float) -> bool:
        return (self.bad_since is not None and self.bad >= WINDOWS and now - self.bad_since >= no_labels_s
                and not self.decided())

    def _turn(self, began: float, well: Callable[[], bool]) -> None:
        self.last = self._look()
        if self.last is None:
            return
        if self.last.bad:
            if self.bad_since is None:
                self.bad_since, self.labelled = began, 0
            self.bad, self.good = self.bad + 1, 0
        else:
            self.good += 1
            if self.bad < WINDOWS or self.good >= WINDOWS:
                self.bad_since, self.bad = None, 0
        if well() and (self.worst is None or self._worse_by(self.worst, self.last.guess.value) > 0):
            self.worst = self.last.guess.value

    def _look(self) -> Estimate | None:
        """None where nothing can be estimated: too little to calibrate by, answers unlike all labelled ones, or no
        reference."""
        guess = self.chances.guess(self.sure) if self.metric == ACCURACY else self.losses.guess(self.numbers)
        reference = self._reference()
        if guess is None or reference is None:
            return None
        worse_by = self._worse_by(reference.value, guess.value)
        drop = self.rule.drop * (reference.value if self.metric != ACCURACY else 1.0) + self.chances.margin
        error = math.hypot(guess.error, reference.error)
        bad = (worse_by > drop and worse_by > _Z * error
               and (self.worst is None or self._worse_by(self.worst, guess.value) > 0))
        return Estimate(self.metric, guess, reference.value, self.metric in self.metrics, bad)

    def _reference(self) -> Guess | None:
        """What was measured at publication; of numbers, else what the labelled answers had."""
        value = self.metrics.get(self.metric)
        if value is None:
            return self.losses.usual() if self.metric != ACCURACY else None
        error = math.sqrt(value * (1 - value) / max(1, self.held_out)) if self.metric == ACCURACY else 0.0
        return Guess(value, error, self.held_out, 0)

    def _worse_by(self, reference: float, value: float) -> float:
        return reference - value if self.metric == ACCURACY else value - reference


@dataclass(slots=True)
class Estimates:
    """Those of all champions whose Pipeline watches their quality."""

    no_labels_s: float
    by_model: dict[str, Estimating] = field(default_factory=dict)

    def begin(self, model: ModelSeen | None, rules: Rules | None) -> None:
        """Forget what was learnt of a version that no longer answers, or is watched otherwise."""
        if model is None or rules is None:
            return
        known = self.by_model.get(model.model)
        if rules.quality is None:
            self.by_model.pop(model.model, None)
        elif known is None or (known.version, known.rule) != (model.champion, rules.quality):
            self.by_model[model.model] = Estimating(rules.quality, model.champion, model.metrics, model.held_out)

    def gone(self, model: str) -> None:
        self.by_model.pop(model, None)

    def judged(self, row: Judged, now: float) -> None:
        known = self.by_model.get(row.pipeline)
        if known is not None and known.version == row.version:
            known.judged(row, now)

    def answered(self, seen: Predicted, now: float, well: Callable[[], bool]) -> None:
        known = self.by_model.get(seen.pipeline)
        if known is not None and known.version == seen.version:
            known.answered(seen, now, lambda: now - known.labelled_at <= self.no_labels_s and well())

    def symptoms(self, now: float) -> Iterator[Symptom]:
        for name, known in sorted(self.by_model.items()):
            if known.last is not None and known.lost(now, self.no_labels_s):
                yield Symptom(ESTIMATED_LOSS, name, known.last.text(), name, version=known.version)
