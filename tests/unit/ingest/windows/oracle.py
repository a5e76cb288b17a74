"""What the columns of windows must be: every event kept for ever, every answer worked out anew, nothing clever."""

import math
import statistics
from dataclasses import dataclass, field

from lepton.contracts.pipeline_blocks import Window
from tests.unit.ingest.windows.samples import Event

US = 1_000_000


@dataclass
class Span:
    """Lengths of a window in microseconds: of a pane, and how many panes it spans and are kept."""

    pane: int
    reach: int
    kept: int

    @classmethod
    def of(cls, window: Window) -> "Span":
        if window.kind == "session":
            return cls(round((window.gap or 0) * US), 1, 1)
        size = round((window.size or 0) * US)
        if window.kind == "tumbling":
            return cls(size, 1, 2)
        pane = round((window.every or 0) * US) if window.kind == "hopping" else round(size / 60)
        reach = round(size / pane)
        return cls(pane, reach, reach + max(1, reach // 2))


@dataclass
class Life:
    """An entity from its first event until it is forgotten."""

    seen: int
    latest: int | None = None
    taken: dict[str, list[tuple[int, Event]]] = field(default_factory=dict)
    """By window, the events that count with their panes; for a session those of the current one, without panes."""


class Oracle:
    def __init__(self, windows: tuple[Window, ...]) -> None:
        self.windows = windows
        self.remembered = max(span.pane * span.kept for span in map(Span.of, windows))
        self.mark: int | None = None
        self.lives: dict[str, Life] = {}

    def accept(self, event: Event) -> dict[str, float | None]:
        if self.mark is None:
            self.mark = event.at
        elif event.at > self.mark:
            self.mark = min(event.at, self.mark + max(1, self.remembered // 8))
        life = self.lives.get(event.entity)
        if life is None or self.mark - life.seen > self.remembered:
            life = self.lives[event.entity] = Life(self.mark)
        found: dict[str, float | None] = {}
        for window in self.windows:
            look = self._session if window.kind == "session" else self._panes
            inside = look(window, life, event)
            for aggregate, column in zip(window.aggregates, window.columns, strict=True):
                if aggregate == "time_since":
                    known = life.latest is not None and life.latest <= event.at
                    found[column] = (event.at - (life.latest or 0)) / US if known else None
                else:
                    found[column] = None if inside is None else aggregated(window, aggregate, inside)
        life.seen = self.mark
        life.latest = event.at if life.latest is None else max(event.at, life.latest)
        return found

    def _panes(self, window: Window, life: Life, event: Event) -> list[tuple[int, Event]] | None:
        span = Span.of(window)
        taken = life.taken.setdefault(window.name, [])
        pane = event.at // span.pane
        newest = max([pane, *(one for one, _ in taken)])
        if pane - span.reach + 1 <= newest - span.kept:
            return None
        taken.append((pane, event))
        return [(one, other) for one, other in taken if pane - span.reach < one <= pane]

    def _session(self, window: Window, life: Life, event: Event) -> list[tuple[int, Event]] | None:
        gap = Span.of(window).pane
        taken = life.taken.setdefault(window.name, [])
        if taken and life.latest is not None and event.at > life.latest + gap:
            taken.clear()
        if taken and event.at < min(other.at for _, other in taken) - gap:
            return None
        taken.append((0, event))
        return list(taken)


def aggregated(window: Window, aggregate: str, inside: list[tuple[int, Event]]) -> float | None:
    if aggregate == "count" and window.of is None:
        return float(len(inside))
    events = [event for _, event in inside]
    if aggregate in ("count", "distinct") and window.of == "note":
        notes = [event.note for event in events if event.note is not None]
        return float(len(notes) if aggregate == "count" else len(set(notes)))
    values = [event.value for event in events if event.value is not None]
    if aggregate == "count":
        return float(len(values))
    if aggregate == "distinct":
        return float(len(set(values)))
    if not values:
        return None
    if aggregate == "std":
        return statistics.stdev(values) if len(values) > 1 else None
    if aggregate == "last":
        newest = max(event.at for event in events if event.value is not None)
        return [event.value for event in events if event.value is not None and event.at == newest][-1]
    if aggregate in ("min", "max"):
        return min(values) if aggregate == "min" else max(values)
    return math.fsum(values) / (len(values) if aggregate == "mean" else 1)
