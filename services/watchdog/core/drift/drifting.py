"""Which shapes drifted: windows of rows against the reference, judged together, and believed when they repeat."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.watchdog.core.drift.adwin import Adwin
from services.watchdog.core.drift.distances import holm, jensen_shannon, psi
from services.watchdog.core.drift.shapes import Histogram, Numbers, Values
from services.watchdog.core.thresholds.limits import DriftRule

# A mean that moved by less than this many of the reference's standard deviations is no drift, however sure it is.
MOVED = 0.5
SHOWN = 5


@dataclass(slots=True)
class Course:
    """The mean of a field over time, in standard deviations of its first rows."""

    adwin: Adwin = field(default_factory=Adwin)
    means: list[tuple[float, float, float]] = field(default_factory=list)
    middle: float = 0.0
    spread: float = 0.0
    moved: float = 0.0

    def settle(self) -> None:
        rows = sum(weight for _, _, weight in self.means)
        if rows:
            self.middle = sum(mean * weight for mean, _, weight in self.means) / rows
            square = sum((std * std + (mean - self.middle) ** 2) * weight for mean, std, weight in self.means) / rows
            self.spread = square ** 0.5
        self.means = []

    def see(self, mean: float, std: float, rows: float, settled: bool) -> None:
        if not settled:
            self.means.append((mean, std, rows))
        elif self.spread > 0:
            self.adwin.see((mean - self.middle) / self.spread)
            # Its window holds only what came since the mean changed last.
            self.moved = self.adwin.mean

    @property
    def drifted(self) -> bool:
        return self.adwin.count >= 10 and abs(self.moved) >= MOVED


@dataclass(slots=True)
class Drifting:
    """Shapes by name of one pipeline's fields, or of one version's answers."""

    rule: DriftRule
    shapes: dict[str, Numbers | Values] = field(default_factory=dict)
    courses: dict[str, Course] = field(default_factory=dict)
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
            shape.settle()
        for course in self.courses.values():
            course.settle()
        self.shapes = {name: shape for name, shape in self.shapes.items() if shape.reference}
        self.rows, self.settled_at = 0.0, now

    def _turn(self, now: float, healthy: bool) -> None:
        judged = {name: shape for name, shape in self.shapes.items() if sum(shape.window) >= self.rule.rows / 4}
        significant = holm({name: shape.chance() for name, shape in judged.items()}, self.rule.chance)
        found: dict[str, str] = {}
        for name, shape in judged.items():
            apart = psi(shape.reference, shape.window)
            if name in significant and apart >= self.rule.psi:
                found[name] = f"PSI {apart:.2f}, Jensen-Shannon {jensen_shannon(shape.reference, shape.window):.2f}"
        for name, course in self.courses.items():
            if course.drifted:
                found.setdefault(name, f"its mean moved by {course.moved:+.1f} standard deviations")
        for name in sorted({*self.shapes, *self.courses}):
            self._count(name, found.get(name))
        young = self.began_at is not None and now - self.began_at <= self.rule.reference_s
        for name, shape in self.shapes.items():
            shape.turn(learn=young and healthy and not found and not self.standing and name in judged)
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
