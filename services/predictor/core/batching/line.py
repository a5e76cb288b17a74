"""In which order waiting requests run, and which of them make one batch: by priority, then as they came."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from services.predictor.core.batching.limits import Limits
from services.predictor.core.signature import Array, Feed

Shapes = tuple[tuple[int, ...], ...]
"""Sizes behind the batch dimension of the inputs that leave them free."""


@dataclass(slots=True, eq=False)
class Waiting:
    """One request; `deadline` and `arrived` are monotonic seconds."""

    feed: Feed
    shapes: Shapes
    deadline: float
    arrived: float
    future: asyncio.Future[Mapping[str, Array]]
    level: int = 0

    def wanted(self, now: float) -> bool:
        """Whether anybody still waits for the answer."""
        return not self.future.done() and self.deadline > now


Drop = Callable[[Waiting], None]


class Line:
    """For one batcher. `rows` is what waits in all; `drop` is given each request nobody wants any more, once."""

    def __init__(self, drop: Drop) -> None:
        self.rows = 0
        self._drop = drop
        self._levels: dict[int, deque[Waiting]] = {}
        self._rows: dict[int, int] = {}

    def __bool__(self) -> bool:
        return bool(self._levels)

    def __len__(self) -> int:
        return sum(len(queue) for queue in self._levels.values())

    def before(self, level: int) -> int:
        """Rows that run before those of a request of this level that comes now."""
        if len(self._levels) < 2:
            return self.rows if level >= next(iter(self._levels), level) else 0
        return sum(rows for one, rows in self._rows.items() if one <= level)

    def add(self, waiting: Waiting) -> None:
        """Behind all others of its level; 1 runs before 2."""
        level = waiting.level
        queue = self._levels.get(level)
        if queue is None:
            queue = deque()
            self._levels[level] = queue
            if len(self._levels) > 1:
                self._levels = dict(sorted(self._levels.items()))
        queue.append(waiting)
        self.rows += waiting.feed.rows
        self._rows[level] = self._rows.get(level, 0) + waiting.feed.rows

    def oldest(self) -> float:
        """When the request that waits longest came; not to be asked of an empty line."""
        return min(queue[0].arrived for queue in self._levels.values())

    def clear_out(self, now: float) -> None:
        """Drop what was given up or is too late, wherever it stands."""
        for level in list(self._levels):
            kept = deque(one for one in self._levels[level] if self._is_wanted(one, now))
            self._keep(level, kept)

    def take(self, limits: Limits, now: float) -> list[Waiting]:
        """The next batch: the first of the line, and behind it what has its shape and fits. A larger request goes
        alone. Where sizes are preferred, it ends at the largest of them that it can have."""
        batch: list[Waiting] = []
        rows, best = 0, 0
        for queue in self._levels.values():
            for waiting in queue:
                if not waiting.wanted(now):
                    continue
                size = rows + waiting.feed.rows
                if batch and (size > limits.max_rows or waiting.shapes != batch[0].shapes):
                    return self._taken(batch, best, now)
                batch.append(waiting)
                rows = size
                if rows in limits.preferred:
                    best = len(batch)
        return self._taken(batch, best, now)

    def empty(self) -> list[Waiting]:
        """Everything, in order; nothing waits afterwards."""
        found = [waiting for queue in self._levels.values() for waiting in queue]
        self._levels.clear()
        self._rows.clear()
        self.rows = 0
        return found

    def _taken(self, batch: list[Waiting], best: int, now: float) -> list[Waiting]:
        """Take the batch, or the first `best` of it, out of the line, and drop what stood before its last."""
        batch = batch[:best] if best else batch
        left = len(batch)
        for level in list(self._levels):
            queue = self._levels[level]
            while queue:
                if left and queue[0] is batch[-left]:
                    self._less(queue.popleft())
                    left -= 1
                elif self._is_wanted(queue[0], now):
                    return batch
                else:
                    queue.popleft()
            del self._levels[level]
        return batch

    def _is_wanted(self, waiting: Waiting, now: float) -> bool:
        if waiting.wanted(now):
            return True
        self._less(waiting)
        self._drop(waiting)
        return False

    def _less(self, waiting: Waiting) -> None:
        self.rows -= waiting.feed.rows
        self._rows[waiting.level] -= waiting.feed.rows

    def _keep(self, level: int, kept: deque[Waiting]) -> None:
        if kept:
            self._levels[level] = kept
        else:
            del self._levels[level]


def shapes_of(varying: Sequence[str], feed: Feed) -> Shapes:
    """What must be equal for requests to run together."""
    return tuple(feed.arrays[name].shape[1:] for name in varying)
