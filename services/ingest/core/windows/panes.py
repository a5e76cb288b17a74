"""Which pane of its entity's time an event falls into, and whether that pane still takes it.

Time is cut into panes, counted from 1970-01-01T00:00Z. A window is the pane of the event and those before it that
reach back over `size`: one for a tumbling window, size / every for a hopping one, sixty for a sliding one. A session is
a pane of its own that lasts as long as its events come.
"""

from dataclasses import dataclass

import numpy as np

from lepton.contracts.pipeline_blocks import Window
from services.ingest.core.windows.runs import Bools, Ints, Runs

SLIDING_PANES = 60
# Panes of a window are spread over at most so many records a block, so that a batch writes what it touched.
_SLOTS = 48
_FEW = 4
_US = 1_000_000


@dataclass(frozen=True, slots=True)
class Layout:
    """Lengths of one window, in panes and microseconds."""

    pane_us: int
    """0 for a session."""
    reach: int
    """Panes a window spans."""
    kept: int
    """Newest panes remembered of an entity, the current one included."""
    gap_us: int = 0

    @classmethod
    def of(cls, window: Window) -> "Layout":
        if window.kind == "session":
            return cls(0, 1, 1, _us(window.gap))
        size = _us(window.size)
        pane = size if window.kind == "tumbling" else _us(window.every) if window.every else max(
            1, round(size / SLIDING_PANES))
        reach = max(1, round(size / pane))
        return cls(pane, reach, reach + max(1, reach // 2))

    @property
    def open(self) -> int:
        """Newest panes an event may fall into: those whose whole window is remembered."""
        return self.kept - self.reach + 1

    @property
    def span_us(self) -> int:
        """An entity idle for longer has nothing left to go on from."""
        return self.gap_us or self.pane_us * self.kept

    def slot(self, pane: Ints) -> Ints:
        """Which of a block's records holds the pane."""
        if self.kept <= _FEW:
            return np.zeros_like(pane)
        together = -(-self.kept // _SLOTS)
        return np.asarray(pane // together % _SLOTS)

    @property
    def slots(self) -> int:
        return 1 if self.kept <= _FEW else _SLOTS


@dataclass(frozen=True, slots=True)
class Placed:
    """For each row its pane and whether that takes it; for each life the pane that is current after the batch."""

    pane: Ints
    taken: Bools
    current: Ints


def place_by_clock(layout: Layout, times: Ints, lives: Runs, newest: Ints) -> Placed:
    """`newest`: the newest pane each life had before, NEVER where none."""
    pane = times // layout.pane_us
    current = lives.accumulate(np.maximum, pane, newest)
    return Placed(pane, pane > current - layout.open, current[lives.last])


def place_in_sessions(layout: Layout, times: Ints, lives: Runs, latest: Ints, begun: Ints) -> Placed:
    """Sessions of a life are counted; 0 is the one it was in before. `latest`: the newest event time before each row;
    `begun`: when the session each life was in began (the highest number where in none).

    A session reaches from `gap` before its first event to `gap` after its last. What is earlier is too late: earlier
    sessions are not kept.
    """
    none = begun == np.iinfo(np.int64).max
    opens = times > latest + layout.gap_us
    opens[lives.starts] |= none
    opened: Ints = np.cumsum(opens.astype(np.int64))
    number: Ints = opened - (opened - opens)[lives.starts][lives.of_row]
    runs = Runs(np.flatnonzero(_changes(number, lives)), len(times))
    mine = lives.of_row[runs.starts]
    start = np.where(number[runs.starts] == 0, begun[mine], np.iinfo(np.int64).max)
    earliest = runs.before(runs.accumulate(np.minimum, times, start), start)
    late = _before(times, earliest, layout.gap_us)
    for group in np.unique(runs.of_row[late]).tolist():
        # One that is too late would pull the beginning back for those after it: such sessions go row by row.
        _sort_out(times, late, layout.gap_us, int(runs.starts[group]), int(runs.last[group]), int(start[group]))
    return Placed(number, ~late, number[lives.last])


def _changes(number: Ints, lives: Runs) -> Bools:
    changed = np.concatenate(([True], number[1:] != number[:-1]))
    changed[lives.starts] = True
    return changed


def _before(times: Ints, earliest: Ints, gap_us: int) -> Bools:
    return np.asarray((earliest != np.iinfo(np.int64).max) & (times < earliest - gap_us))


def _sort_out(times: Ints, late: Bools, gap_us: int, first: int, last: int, begun: int) -> None:
    for row in range(first, last + 1):
        time = int(times[row])
        late[row] = begun != np.iinfo(np.int64).max and time < begun - gap_us
        if not late[row]:
            begun = min(begun, time)


def _us(seconds: float | None) -> int:
    return max(1, round((seconds or 0.0) * _US))
