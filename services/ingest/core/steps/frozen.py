"""What statistics of a partition say at the moment they are frozen, and the bounds that follow for outliers."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from lepton.contracts.pipeline_blocks import Outliers
from services.ingest.core.steps.moments import Moments
from services.ingest.core.steps.sample import Sample

Array = np.ndarray[Any, np.dtype[Any]]

# Frozen at so many kept rows of a partition, then whenever they have doubled.
FIRST_ROWS = 500
# Makes the median absolute deviation of normally distributed values equal to their standard deviation.
MAD_SCALE = 1.4826


def next_freeze(rows: int) -> int:
    """The first row count beyond `rows` at which statistics are frozen: 500, 1000, 2000, 4000 …"""
    at = FIRST_ROWS
    while at <= rows:
        at *= 2
    return at


@dataclass(frozen=True, slots=True)
class Frozen:
    """Every attribute but `rows` is one number a column, NaN where nothing was present. `mad` is not scaled."""

    rows: int
    mean: Array
    std: Array
    q1: Array
    median: Array
    q3: Array
    mad: Array

    @classmethod
    def of(cls, rows: int, moments: Moments, sample: Sample) -> "Frozen":
        """Mean and spread are of all rows; quantiles, and the median distance from the median, of the sample."""
        columns = len(moments.present)
        ranked = np.full((4, columns), np.nan)
        # Halfway between the largest doubles lies infinity; no bounds follow from it.
        with np.errstate(over="ignore", invalid="ignore"):
            for column, values in enumerate(np.ascontiguousarray(sample.rows.T)):
                present = values[np.isfinite(values)]
                if len(present):
                    ranked[:3, column] = _quartiles(present)
                    ranked[3, column] = _median(np.abs(present - ranked[1, column]))
        return cls(rows, moments.mean, moments.std, ranked[0], ranked[1], ranked[2], ranked[3])

    def bounds(self, names: tuple[str, ...], outliers: Outliers) -> dict[str, tuple[float, float]]:
        """By field, by the same rule as the trainer's; a field without spread has none: every other value would lie
        outside."""
        if outliers.method not in ("iqr", "zscore", "mad"):
            return {}
        with np.errstate(over="ignore", invalid="ignore"):
            low, high, spread = {
                "iqr": (self.q1, self.q3, self.q3 - self.q1),
                "zscore": (self.mean, self.mean, self.std),
                "mad": (self.median, self.median, MAD_SCALE * self.mad)}[outliers.method]
            reach = outliers.width * spread
        usable = np.isfinite(reach) & (spread > 0)
        return {names[column]: (float(low[column] - reach[column]), float(high[column] + reach[column]))
                for column in np.flatnonzero(usable).tolist()}

    def columns(self, places: list[int | None]) -> "Frozen":
        """Columns at these places of ours; None is a new one, of which nothing is known yet."""
        parts = [np.array([np.nan if place is None else part[place] for place in places]) for part in self._parts()]
        return Frozen(self.rows, *parts)

    def to_bytes(self) -> bytes:
        return np.stack(self._parts()).astype("<f8").tobytes()

    @classmethod
    def from_bytes(cls, rows: int, data: bytes, columns: int) -> "Frozen":
        """Raises ValueError when the bytes are not of so many columns."""
        return cls(rows, *np.frombuffer(data, "<f8").reshape(6, columns))

    def _parts(self) -> list[Array]:
        return [getattr(self, part.name) for part in fields(self)[1:]]


def _quartiles(values: Array) -> list[np.float64]:
    """Those of `numpy.quantile`, to the last bit but for the sign of a zero, with less work around them."""
    found = []
    last = len(values) - 1
    places = [(int(last * share), last * share % 1.0) for share in (0.25, 0.5, 0.75)]
    ranked = np.partition(values, [min(place + more, last) for place, _ in places for more in (0, 1)])
    for place, beyond in places:
        low, high = ranked[place], ranked[min(place + 1, last)]
        apart = high - low
        found.append(high - apart * (1 - beyond) if beyond >= 0.5 else low + apart * beyond)
    return found


def _median(values: Array) -> np.float64:
    """That of `numpy.median`."""
    half = len(values) // 2
    ranked = np.partition(values, [(len(values) - 1) // 2, half])
    middle: np.float64 = ranked[half] if len(values) % 2 else (ranked[half - 1] + ranked[half]) / 2
    return middle
