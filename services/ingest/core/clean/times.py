"""Which event times are late or in the future, by the watermark of a partition and the broker's clock."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from lepton.contracts.pipeline_blocks import Clean
from services.ingest.core.clean.turned import Turned

Array = np.ndarray[Any, np.dtype[Any]]
# Before every event time there can be.
NO_WATERMARK = -(2**62)
_US = 1_000_000


@dataclass(frozen=True, slots=True)
class Timed:
    """Of the rows of a batch. Times are microseconds since the epoch."""

    times: Array
    """Event times, with future ones set to the broker's where the Pipeline clips them."""
    late: Array
    future: Array
    watermark: int
    """After these rows."""


class Times:
    """The policies of one Pipeline version."""

    def __init__(self, clean: Clean) -> None:
        self._after_us = None if clean.late.after is None else round(clean.late.after * _US)
        self._ahead_us = round(clean.future.ahead * _US)
        self._late, self._future = clean.late.action, clean.future.action

    def judge(self, times: Array, broker: Array, watermark: int) -> Timed:
        """Row by row: each is late against the highest time before it, and future ones move nothing."""
        future = times > broker + self._ahead_us
        some = bool(future.any())
        seen = np.where(future, NO_WATERMARK, times) if some else times
        if not len(seen):
            return Timed(times, future, future, watermark)
        highest = max(watermark, int(seen.max()))
        late = np.zeros(len(times), np.bool_)
        if self._after_us is not None and int(seen.min()) < highest - self._after_us:
            before = np.maximum.accumulate(np.concatenate(([watermark], seen)))[:-1]
            late = (times < before - self._after_us) & ~future
        if some and self._future == "clip":
            times = np.where(future, broker, times)
        return Timed(times, late, future, highest)

    def turned_away(self, timed: Timed) -> Iterator[Turned]:
        """Rows a policy makes dead letters."""
        if self._late == "quarantine" and timed.late.any():
            for row in np.flatnonzero(timed.late).tolist():
                yield Turned(row, "late", f"its time is more than {(self._after_us or 0) / _US:g} s behind the "
                                          "partition's watermark", None)
        if self._future == "quarantine" and timed.future.any():
            for row in np.flatnonzero(timed.future).tolist():
                yield Turned(row, "future", f"its time is more than {self._ahead_us / _US:g} s ahead of the broker's",
                             None)
