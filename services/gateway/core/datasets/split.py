"""Which part of a split a row belongs to: by a stated hash of its event or entity, or by its time; never by chance."""

import hashlib
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lepton.contracts.features import ENTITY, EVENT_ID, OCCURRED_AT
from lepton.errors import Invalid

By = Literal["event", "entity", "time"]
Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = get_args(Part)
METHOD = "SHA-256 of `<seed>:<id>`, its first 8 bytes as a big-endian number over 2^64, against the shares added up"
_MAX_BINS = 65_536

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Split:
    """`shares` of train, validation and test, which are 1 together; `cuts_us` only by time: where the next begins.

    By entity, no entity is in two parts. By event or entity a row keeps its part as rows are added.
    """

    by: By = "event"
    seed: int = 0
    shares: tuple[float, float, float] = (0.8, 0.1, 0.1)
    cuts_us: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if any(not 0 <= share <= 1 for share in self.shares) or abs(sum(self.shares) - 1) > 1e-9:
            raise Invalid("shares are three numbers from 0 to 1 that add up to 1", field="shares",
                          remedy="write for example 0.8,0.1,0.1")

    def parts(self, rows: pa.Table) -> npt.NDArray[np.int8]:
        """Index into PARTS of each row."""
        if self.by == "time":
            if self.cuts_us is None:
                raise ValueError("a split by time needs its cuts")
            times = times_of(rows)
            return _small(np.searchsorted(np.array(self.cuts_us, np.int64), times, side="right"))
        column = rows.column(EVENT_ID if self.by == "event" else ENTITY).combine_chunks()
        if not len(column):
            return np.zeros(0, np.int8)
        encoded = column.dictionary_encode()
        ends = np.cumsum(self.shares)[:2]
        found = np.searchsorted(ends, [self._point(text) for text in encoded.dictionary.to_pylist()], side="right")
        return _small(found[encoded.indices.to_numpy(zero_copy_only=False)])

    def _point(self, text: str) -> float:
        digest = hashlib.sha256(f"{self.seed}:{text}".encode()).digest()
        return int.from_bytes(digest[:8], "big") / 2.0**64


def _small(parts: npt.NDArray[np.intp]) -> npt.NDArray[np.int8]:
    return parts.astype(np.int8)


def times_of(rows: pa.Table) -> Numbers:
    """Event times in microseconds since the epoch."""
    times: Numbers = rows.column(OCCURRED_AT).combine_chunks().cast(pa.int64()).to_numpy(zero_copy_only=False)
    return times


class TimeCuts:
    """Where to cut rows by time into shares, from one pass in bounded memory.

    Times are counted in bins of 2^k µs, with the smallest k that needs at most 65,536 bins; so the cuts depend on the
    rows alone, not on their order, and are exact up to one bin.
    """

    def __init__(self) -> None:
        self._shift = 0
        self._bins: dict[int, int] = {}

    def add(self, times_us: Numbers) -> None:
        bins, counts = np.unique(times_us >> self._shift, return_counts=True)
        for one, count in zip(bins.tolist(), counts.tolist(), strict=True):
            self._bins[one] = self._bins.get(one, 0) + count
        while len(self._bins) > _MAX_BINS:
            self._shift += 1
            wider: dict[int, int] = {}
            for one, count in self._bins.items():
                wider[one >> 1] = wider.get(one >> 1, 0) + count
            self._bins = wider

    def cuts(self, shares: tuple[float, float, float]) -> tuple[int, int]:
        """Microseconds where validation and where test begins."""
        bins = sorted(self._bins)
        if not bins:
            return (0, 0)
        below = np.cumsum([self._bins[one] for one in bins])
        ends = [int(np.searchsorted(below, share * below[-1] - 1e-6)) for share in np.cumsum(shares)[:2]]
        first, second = ((bins[min(end, len(bins) - 1)] + 1) << self._shift for end in ends)
        return (first if shares[0] else bins[0] << self._shift, max(first, second) if shares[1] else first)
