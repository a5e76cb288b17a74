"""What is usual of one pipeline's rows and answers, and what of it is not as usual now."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from services.watchdog.core.drift.drifting import Drifting
from services.watchdog.core.inputs import Judged, Predicted, Rules
from services.watchdog.core.rows.labels import LabelFlow
from services.watchdog.core.rows.shares import Shares
from services.watchdog.core.rows.volume import Volume
from services.watchdog.core.summaries.counts import FieldRows, Labelled, RowsSeen, total
from services.watchdog.core.symptom import ANSWER_DRIFT, DRIFT, NO_LABELS, NO_ROWS, SURGE, UNUSUAL_ROWS, Symptom

ANSWER = "answer"
# Numbers a version answered with are collected into histograms of so many.
NUMBERS = 100


@dataclass(slots=True)
class Patterns:
    """One pipeline's. Rules that change begin it anew; so does a version that was made of rows that had drifted."""

    rules: Rules
    fields: Drifting = field(init=False)
    answers: Drifting = field(init=False)
    shares: Shares = field(default_factory=Shares)
    volume: Volume = field(default_factory=Volume)
    labels: LabelFlow = field(default_factory=LabelFlow)
    version: int = 0
    numbers: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.fields, self.answers = Drifting(self.rules.drift), Drifting(self.rules.drift)

    def rows(self, seen: RowsSeen, now: float, healthy: bool) -> None:
        accepted = sum(one.accepted for one in seen.sources)
        self.volume.see(total(seen), now - seen.age_s, now, self.rules.volume)
        self.labels.accepted(accepted, now - seen.age_s, self.rules.volume)
        self.shares.see(seen, self.rules.shares)
        for one in seen.fields:
            self._field(one)
        if seen.joint is not None:
            self.fields.together(seen.joint.fields, seen.joint.rows, seen.joint.correlations)
        self.fields.came(accepted, now, healthy and not self.shares.standing)

    def answered(self, seen: Predicted, now: float) -> None:
        if seen.version != self.version:
            if seen.version < self.version:
                return
            self.version, self.answers, self.numbers = seen.version, Drifting(self.rules.drift), []
        rows = sum(count for _, count in seen.names)
        if rows:
            self.answers.values(ANSWER, dict(seen.names), rows)
            self.answers.came(rows, now, not self.fields.standing)
        self.numbers += seen.numbers
        while len(self.numbers) >= NUMBERS:
            some, self.numbers = sorted(self.numbers[:NUMBERS]), self.numbers[NUMBERS:]
            # Each number is an edge, and between two neighbours lies one of them.
            self.answers.numbers(ANSWER, (tuple(some), (1.0,) * (NUMBERS - 1)))
            self.answers.came(NUMBERS, now, not self.fields.standing)

    def retrained(self) -> None:
        """A version that was made after the fields drifted knows the rows as they are now: they are the reference."""
        if self.fields.standing:
            self.fields = Drifting(self.rules.drift)

    def symptoms(self, now: float) -> Iterator[Symptom]:
        name = self.rules.pipeline
        if self.shares.standing:
            yield Symptom(UNUSUAL_ROWS, name, "; ".join(why for _, why in sorted(self.shares.standing.items())), name)
        if self.fields.standing:
            yield Symptom(DRIFT, name, f"drifted: {self.fields.text()}", name)
        if self.answers.standing:
            yield Symptom(ANSWER_DRIFT, name, f"answers of version {self.version} drifted: {self.answers.text()}", name,
                          version=self.version)
        volume = self.volume.look(now, self.rules.volume)
        if volume:
            over_s, usual = self.rules.volume.over_s, self.volume.usual or 0.0
            yield Symptom(SURGE if volume == "surge" else NO_ROWS, name,
                          f"{self.volume.rows:.0f} rows in {over_s:.0f} s where {usual:.0f} are usual", name)
        if self.labels.standing:
            yield Symptom(NO_LABELS, name, self.labels.standing, name)

    def _field(self, one: FieldRows) -> None:
        if one.quarantined:
            self.fields.leave_out(one.name)
            return
        _edges, counts = one.histogram
        if counts:
            self.fields.numbers(one.name, one.histogram)
            self.fields.mean(one.name, one.mean, one.std, sum(counts))
        elif one.top:
            self.fields.values(one.name, dict(one.top), one.counted)


@dataclass(slots=True)
class AllPatterns:
    """Those of all pipelines."""

    by_pipeline: dict[str, Patterns] = field(default_factory=dict)

    def rule(self, rules: Rules) -> None:
        known = self.by_pipeline.get(rules.pipeline)
        if rules.deleted:
            self.by_pipeline.pop(rules.pipeline, None)
        elif known is None or (known.rules.drift, known.rules.shares, known.rules.volume) != (
                rules.drift, rules.shares, rules.volume):
            self.by_pipeline[rules.pipeline] = Patterns(rules)
        elif rules.quality is None:
            known.labels = LabelFlow()

    def look(self, now: float) -> None:
        """Labels are followed whoever leads."""
        for patterns in self.by_pipeline.values():
            patterns.labels.look(now, patterns.rules.volume)

    def labelled_before(self, pipeline: str) -> bool:
        """Whether labels of it came since this watchdog began."""
        known = self.by_pipeline.get(pipeline)
        return known is not None and known.labels.began_at is not None

    def volume_known(self, pipeline: str) -> bool:
        """Whether it is known how many rows of it are usual, and how many come now."""
        known = self.by_pipeline.get(pipeline)
        return known is not None and known.volume.known

    def long_ago(self, seen: RowsSeen, now: float) -> None:
        """A summary of long ago, of which only the number of rows is wanted."""
        patterns = self.by_pipeline.get(seen.pipeline)
        if patterns is not None:
            patterns.volume.see(total(seen), now - seen.age_s, now, patterns.rules.volume)

    def rows(self, seen: RowsSeen, now: float, bad_sources: Mapping[str, object]) -> None:
        patterns = self.by_pipeline.get(seen.pipeline)
        if patterns is not None:
            patterns.rows(seen, now, not bad_sources)

    def answered(self, seen: Predicted, now: float) -> None:
        patterns = self.by_pipeline.get(seen.pipeline)
        if patterns is not None:
            patterns.answered(seen, now)

    def labelled(self, seen: Labelled, now: float) -> None:
        patterns = self.by_pipeline.get(seen.pipeline)
        if patterns is not None:
            patterns.labels.labelled(seen, now, patterns.rules.volume)

    def judged(self, row: Judged) -> None:
        patterns = self.by_pipeline.get(row.pipeline)
        if patterns is not None:
            patterns.labels.late(row.late_s)

    def unusual(self, pipeline: str) -> bool:
        """Whether rows, fields or answers are not as usual."""
        known = self.by_pipeline.get(pipeline)
        return known is not None and bool(known.shares.standing or known.fields.standing or known.answers.standing)

    def retrained(self, pipeline: str) -> None:
        patterns = self.by_pipeline.get(pipeline)
        if patterns is not None:
            patterns.retrained()

    def symptoms(self, now: float) -> Iterator[Symptom]:
        for _, patterns in sorted(self.by_pipeline.items()):
            yield from patterns.symptoms(now)
