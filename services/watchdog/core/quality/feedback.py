"""Whether people contradict a version's answers more often than is usual for its pipeline.

Feedback is an outcome that was told after its event; where it is another one than was predicted, it is negative. It is
bad when in WINDOWS windows of ROWS outcomes of the champion, one after the other, the share of negative ones is MORE
above the usual one, and by a one-sided test of a share (normal, continuous) at CHANCE not by chance. What is usual is
learnt from windows that are not bad, of every version: a champion is measured by what people said of those before it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from services.watchdog.core.drift.distances import more_often
from services.watchdog.core.inputs import Judged, ModelSeen, Rules
from services.watchdog.core.symptom import BAD_FEEDBACK, Symptom

ROWS = 50
WINDOWS = 2
CHANCE = 0.001
MORE = 0.15
USUAL_WEIGHT = 0.2


@dataclass(slots=True)
class Feedback:
    """What was said of one pipeline's champion. `usual`: share of negative outcomes, learnt over all versions."""

    version: int = 0
    usual: float | None = None
    rows: int = 0
    negative: int = 0
    run: int = 0
    bad: bool = False
    told: str = ""
    """The newest window of this version in words; empty before there is one."""

    def crowned(self, version: int) -> None:
        """Another version answers: what is usual stays, all else begins anew."""
        self.version, self.rows, self.negative, self.run, self.bad, self.told = version, 0, 0, 0, False, ""

    def see(self, row: Judged) -> None:
        self.rows += 1
        self.negative += row.answer != row.truth
        if self.rows >= ROWS:
            self._turn()
            self.rows = self.negative = 0

    def _turn(self) -> None:
        share = self.negative / self.rows
        usual = share if self.usual is None else self.usual
        found = share - usual >= MORE and more_often(usual, self.negative, self.rows) < CHANCE
        self.run = max(self.run, 0) + 1 if found else min(self.run, 0) - 1
        if abs(self.run) >= WINDOWS:
            self.bad = found
        self.told = (f"feedback contradicts {share:.0%} of {self.rows} answers of version {self.version} where "
                     f"{usual:.0%} are usual")
        if not found and not self.bad:
            self.usual = usual + USUAL_WEIGHT * (share - usual)


@dataclass(slots=True)
class AllFeedback:
    """That of all pipelines whose quality is not watched: where it is, the same outcomes are judged there."""

    by_model: dict[str, Feedback] = field(default_factory=dict)

    def begin(self, model: ModelSeen | None, rules: Rules | None) -> None:
        """The champion, and how its Pipeline is watched, as they are now."""
        if model is None or rules is None:
            return
        if rules.quality is not None:
            self.gone(model.model)
            return
        known = self.by_model.setdefault(model.model, Feedback(model.champion))
        if known.version != model.champion:
            known.crowned(model.champion)

    def gone(self, model: str) -> None:
        self.by_model.pop(model, None)

    def judged(self, row: Judged) -> None:
        known = self.by_model.get(row.pipeline)
        # A number is never quite what was predicted.
        if known is not None and row.told and row.version == known.version and isinstance(row.answer, str):
            known.see(row)

    def symptoms(self) -> Iterator[Symptom]:
        for name, known in sorted(self.by_model.items()):
            if known.bad:
                yield Symptom(BAD_FEEDBACK, name, known.told, name, version=known.version)
