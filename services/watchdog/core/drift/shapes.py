"""The shape of a field: counts of its values in bins that its own first rows set, and of the window in hand beside."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.watchdog.core.drift.distances import chi_square, kolmogorov_smirnov
from services.watchdog.core.drift.usual import Usual

BINS = 20
TOP = 20

Histogram = tuple[tuple[float, ...], tuple[float, ...]]


def below(histogram: Histogram, edge: float) -> float:
    """Rows of a histogram up to `edge`, even within a bin; a bin of no width is a single value."""
    edges, counts = histogram
    rows = 0.0
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        if high <= edge:
            rows += count
        elif low < edge:
            rows += count * (edge - low) / (high - low)
            break
        else:
            break
    return rows


def binned(edges: Sequence[float], histogram: Histogram) -> list[float]:
    """Rows between the edges; the first bin holds all below, the last all above."""
    heights = [below(histogram, edge) for edge in edges]
    total = sum(histogram[1])
    return [high - low for low, high in zip([0.0, *heights], [*heights, total], strict=True)]


def quantile_edges(histograms: Sequence[Histogram]) -> list[float]:
    """Edges that part the rows of all of them into about equal shares; fewer where values repeat."""
    places = sorted({edge for edges, _ in histograms for edge in edges})
    heights = [sum(below(one, place) for one in histograms) for place in places]
    total = sum(sum(counts) for _, counts in histograms)
    found = (places[min(len(places) - 1, bisect_right(heights, total * part / BINS))] for part in range(1, BINS))
    return sorted(set(found))


@dataclass(slots=True)
class Numbers:
    """A field of numbers. Until `settle` its histograms are kept; then only counts, whatever comes."""

    edges: list[float] = field(default_factory=list)
    reference: list[float] = field(default_factory=list)
    window: list[float] = field(default_factory=list)
    usual: Usual = field(default_factory=Usual)
    _first: list[Histogram] = field(default_factory=list)

    def see(self, histogram: Histogram) -> None:
        if not self.reference:
            self._first.append(histogram)
            return
        for place, rows in enumerate(binned(self.edges, histogram)):
            self.window[place] += rows

    def settle(self, rows: float) -> None:
        """What was seen so far is the reference, in windows of so many rows."""
        if not self._first:
            return
        self.edges = quantile_edges(self._first)
        self.usual.learn_all((binned(self.edges, histogram) for histogram in self._first), rows)
        self.reference = self.usual.total()
        self.window = [0.0] * len(self.reference)
        self._first = []

    def chance(self) -> float:
        """Of the likelier of two tests, for both: one sees where values lie, the other any change of their shape."""
        moved = kolmogorov_smirnov(self.reference, self.window, self.usual.effect(ordered=True))[1]
        changed = chi_square(self.reference, self.window, self.usual.effect(ordered=False))
        return min(1.0, 2 * min(moved, changed))

    def turn(self, learn: bool) -> None:
        """Begin a new window; the one before is taken into the reference if `learn`."""
        if learn:
            self.reference = [one + other for one, other in zip(self.reference, self.window, strict=True)]
            self.usual.learn(self.window)
        self.window = [0.0] * len(self.reference)


@dataclass(slots=True)
class Values:
    """A field of names: counts of the first rows' most frequent ones, and of all others together."""

    names: tuple[str, ...] = ()
    reference: list[float] = field(default_factory=list)
    window: list[float] = field(default_factory=list)
    usual: Usual = field(default_factory=Usual)
    _first: list[tuple[Mapping[str, float], float]] = field(default_factory=list)

    def see(self, counts: Mapping[str, float], rows: float) -> None:
        """`rows` in all; those not named among `counts` are others."""
        if not self.reference:
            self._first.append((counts, rows))
            return
        for place, count in enumerate(self._counted(counts, rows)):
            self.window[place] += count

    def settle(self, rows: float) -> None:
        """What was seen so far is the reference, in windows of so many rows."""
        first: Counter[str] = Counter()
        for counts, _ in self._first:
            first.update(counts)
        if not first:
            return
        ranked = sorted(first.items(), key=lambda one: (-one[1], one[0]))
        self.names = tuple(name for name, _ in ranked[:TOP])
        self.usual.learn_all((self._counted(counts, seen) for counts, seen in self._first), rows)
        self.reference = self.usual.total()
        self.window = [0.0] * len(self.reference)
        self._first = []

    def _counted(self, counts: Mapping[str, float], rows: float) -> list[float]:
        """Rows of each name we know, and of all others together."""
        known = [counts.get(name, 0.0) for name in self.names]
        return [*known, max(rows, sum(counts.values())) - sum(known)]

    def chance(self) -> float:
        return chi_square(self.reference, self.window, self.usual.effect(ordered=False))

    def turn(self, learn: bool) -> None:
        if learn:
            self.reference = [one + other for one, other in zip(self.reference, self.window, strict=True)]
            self.usual.learn(self.window)
        self.window = [0.0] * len(self.reference)
