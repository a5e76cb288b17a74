"""Which shapes drifted: windows of rows against the reference, judged together, and believed when they repeat."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.watchdog.core.drift.adwin import MIN_SIDE, Adwin
from services.watchdog.core.drift.distances import holm, jensen_shannon, psi
from services.watchdog.core.drift.joint import Joint
from services.watchdog.core.drift.shapes import Histogram, Numbers, Values
from services.watchdog.core.thresholds.limits import DriftRule

# A mean that moved by less than this many of the reference's standard deviations is no drift, however sure it is.
MOVED = 0.4
# Nor is one that is no further from the usual than this many standard deviations of the reference's own windows.
SWINGS = 2.5
# An index counts beyond so many times the largest that a window of the reference had.
APART = 1.25
TOGETHER = "fields together"
SHOWN = 5


@dataclass(slots=True)
class Course:
    """The mean of a field over time, in standard deviations of its first rows."""

    adwin: Adwin = field(default_factory=lambda: Adwin(width=0.0))
    means: list[tuple[float, float, float]] = field(default_factory=list)
    middle: float = 0.0
    spread: float = 0.0
    swing: float = 0.0
    """Standard deviation of the means of the reference's windows."""
    moved: float = 0.0

    def settle(self, window: float) -> None:
        """What was seen so far is the reference, in windows of so many rows."""
        rows = sum(weight for _, _, weight in self.means)
        if rows:
            self.middle = sum(mean * weight for mean, _, weight in self.means) / rows
            square = sum((std * std + (mean - self.middle) ** 2) * weight for mean, std, weight in self.means) / rows
            self.spread = square ** 0.5
        if self.spread > 0:
            self.swing = self._swing(window)
        self.means = []

    def _swing(self, window: float) -> float:
        parts: list[tuple[float, float]] = []
        total, rows = 0.0, 0.0
        for mean, _, weight in self.means:
            total, rows = total + (mean - self.middle) * weight, rows + weight
            if rows >= window:
                parts.append((total / rows / self.spread, rows))
                total, rows = 0.0, 0.0
        whole = sum(weight for _, weight in parts)
        return (sum(mean * mean * weight for mean, weight in parts) / whole) ** 0.5 if whole else 0.0

    def see(self, mean: float, std: float, rows: float, settled: bool) -> None:
        if not settled:
            self.means.append((mean, std, rows))
        elif self.spread > 0:
            self.adwin.see((mean - self.middle) / self.spread)
            # Its window holds only what came since the mean changed last.
            self.moved = self.adwin.mean

    @property
    def drifted(self) -> bool:
        return self.adwin.count >= MIN_SIDE and abs(self.moved) >= max(MOVED, SWINGS * self.swing)


@dataclass(slots=True)
class Drifting:
    """Shapes by name of one pipeline's fields, or of one version's answers."""

    rule: DriftRule
    shapes: dict[str, Numbers | Values] = field(default_factory=dict)
    courses: dict[str, Course] = field(default_factory=dict)
    joint: Joint = field(default_factory=Joint)
    rows: float = 0.0
    settled_at: float | None = None
    began_at: float | None = None
    repeated: dict[str, int] = field(default_factory=dict)
    standing: dict[str, str] = field(default_factory=dict)
    """Fields that drifted, and what shows it."""

    def numbers(self, name: str, histogram: Histogram) -> None:
        shape = self.shapes.get(name)
        if shape is None and self.settled_at is None:
            shape = self.shapes[name] = Numbers()
        if isinstance(shape, Numbers):
            shape.see(histogram)

    def values(self, name: str, counts: Mapping[str, float], rows: float) -> None:
        shape = self.shapes.get(name)
        if shape is None and self.settled_at is None:
            shape = self.shapes[name] = Values()
        if isinstance(shape, Values):
            shape.see(counts, rows)

    def mean(self, name: str, mean: float, std: float, rows: float) -> None:
        course = self.courses.get(name)
        if course is None and self.settled_at is None:
            course = self.courses[name] = Course()
        if course is not None:
            course.see(mean, std, rows, self.settled_at is not None)

    def leave_out(self, name: str) -> None:
        """Rows go without the field: what its values drifted to is nothing of theirs any more, nor how they went with
        others. Its reference stays for when it is back."""
        for known in (self.standing, self.repeated):
            for one in [one for one in known if name in one.split(" with ") or one == TOGETHER]:
                del known[one]
        course = self.courses.get(name)
        if course is not None and course.adwin.count:
            course.adwin, course.moved = Adwin(width=0.0), 0.0
        self.joint.begin_anew()

    def together(self, fields: tuple[str, ...], rows: int, correlations: Sequence[float]) -> None:
        self.joint.see(fields, rows, correlations)

    def came(self, rows: float, now: float, healthy: bool) -> None:
        """So many rows were shown; `healthy`: nothing else is wrong with them. Ends a window when it is full."""
        if self.began_at is None:
            self.began_at = now
        self.rows += rows
        if self.settled_at is None:
            if self.rows >= self.rule.reference_rows:
                self._settle(now)
        elif self.rows >= self.rule.rows:
            self._turn(now, healthy)

    def _settle(self, now: float) -> None:
        for shape in self.shapes.values():
            shape.settle(self.rule.rows)
        for course in self.courses.values():
            course.settle(self.rule.rows)
        self.joint.settle(self.rule.rows)
        self.shapes = {name: shape for name, shape in self.shapes.items() if shape.reference}
        self.rows, self.settled_at = 0.0, now

    def _turn(self, now: float, healthy: bool) -> None:
        judged = {name: shape for name, shape in self.shapes.items() if sum(shape.window) >= self.rule.rows / 4}
        significant = holm({name: shape.chance() for name, shape in judged.items()} | self.joint.chances(),
                           self.rule.chance)
        found: dict[str, str] = {}
        for name, shape in judged.items():
            apart = psi(shape.reference, shape.window)
            if name in significant and apart >= max(self.rule.psi, APART * shape.usual.apart(psi)):
                found[name] = f"PSI {apart:.2f}, Jensen-Shannon {jensen_shannon(shape.reference, shape.window):.2f}"
        for name, course in self.courses.items():
            if course.drifted:
                found.setdefault(name, f"its mean moved by {course.moved:+.1f} standard deviations")
        found |= {name: shown for name, shown in self.joint.changed().items() if name in significant}
        if self.joint.moved:
            found[TOGETHER] = f"joint score {self.joint.moved:.2f}"
        for name in sorted({*self.shapes, *self.courses, *self.repeated, *found}):
            self._count(name, found.get(name))
        young = self.began_at is not None and now - self.began_at <= self.rule.reference_s
        learn = young and healthy and not found and not self.standing
        for name, shape in self.shapes.items():
            shape.turn(learn=learn and name in judged)
        self.joint.turn(learn)
        self.rows = 0.0

    def _count(self, name: str, shown: str | None) -> None:
        """A field stands after `windows` in a row that show it, and ends after as many that do not."""
        run = self.repeated.get(name, 0)
        self.repeated[name] = max(run, 0) + 1 if shown is not None else min(run, 0) - 1
        if shown is not None and (self.repeated[name] >= self.rule.windows or name in self.standing):
            self.standing[name] = shown
        elif shown is None and -self.repeated[name] >= self.rule.windows:
            self.standing.pop(name, None)

    def text(self) -> str:
        """The fields that drifted, in words."""
        told = "; ".join(f"{name} ({why})" for name, why in sorted(self.standing.items())[:SHOWN])
        more = f" and {len(self.standing) - SHOWN} more" if len(self.standing) > SHOWN else ""
        return f"{told}{more}"
