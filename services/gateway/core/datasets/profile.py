"""Statistics of every field of a data set in one pass and bounded memory, the same for the same rows in any order.

Exact: counts, missing, mean, standard deviation, extremes, and, up to a bound, distinct values and frequencies. Past
that bound distinct values are estimated from the 4,096 smallest hashes (Bar-Yossef et al., 2002, "Counting distinct
elements in a data stream": relative error about 1.6 %), quantiles from a sample of rows chosen by their hash.
"""

import hashlib
import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lepton.contracts.features import SOURCE_OFFSET

SMALLEST = 4096
SAMPLE_VALUES = 4_000_000
MIN_SAMPLE, MAX_SAMPLE = 1_000, 100_000
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
TOP, KEPT, MOST_KEPT = 20, 1_000, 10_000
_LONGEST_SHOWN = 200

Hashes = npt.NDArray[np.uint64]


def mixed(values: Hashes) -> Hashes:
    """The finaliser of SplitMix64 (Steele et al., 2014): 64 well-spread bits of each number."""
    found = values.copy()
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        found ^= found >> np.uint64(shift)
        found *= np.uint64(factor)
    return found ^ (found >> np.uint64(31))


@dataclass(slots=True)
class _Distinct:
    """The smallest hashes seen, each once."""

    hashes: Hashes = field(default_factory=lambda: np.zeros(0, np.uint64))

    def add(self, hashes: Hashes) -> None:
        self.hashes = np.unique(np.concatenate([self.hashes, hashes]))[:SMALLEST]

    def estimate(self) -> tuple[int, bool]:
        """How many, and whether that is exact."""
        if len(self.hashes) < SMALLEST:
            return len(self.hashes), True
        return round((SMALLEST - 1) / (float(self.hashes[-1]) / 2.0**64)), False


@dataclass(slots=True)
class _Moments:
    """Count, mean and sum of squared deviations, merged pairwise (Chan et al., 1983)."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    low: float = math.inf
    high: float = -math.inf

    def add(self, values: npt.NDArray[np.float64]) -> None:
        if not len(values):
            return
        count, mean = len(values), float(values.mean())
        squares, apart, total = float(((values - mean) ** 2).sum()), mean - self.mean, self.count + count
        self.squares += squares + apart * apart * self.count * count / total
        self.mean += apart * count / total
        self.count, self.low, self.high = total, min(self.low, float(values.min())), max(self.high, float(values.max()))


class _Field:
    """Statistics of one column."""

    def __init__(self, kind: pa.DataType, sample: int) -> None:
        self._kind = kind
        self._sample = sample
        self._rows = self._missing = 0
        self._distinct = _Distinct()
        self._moments = _Moments()
        self._top: Counter[Any] = Counter()
        self._pruned = False
        self._picked: tuple[Hashes, npt.NDArray[np.float64]] = (np.zeros(0, np.uint64), np.zeros(0))

    def add(self, column: pa.ChunkedArray, draws: Hashes) -> None:
        self._rows += len(column)
        self._missing += column.null_count
        array = column.combine_chunks()
        if pa.types.is_floating(self._kind) or pa.types.is_integer(self._kind):
            self._add_numbers(array, draws)
        elif pa.types.is_string(self._kind) or pa.types.is_boolean(self._kind):
            self._add_names(array)
        elif pa.types.is_timestamp(self._kind):
            times = array.cast(pa.int64())
            self._moments.add(times.drop_null().to_numpy(zero_copy_only=False).astype(np.float64))
        else:
            sizes = pc.binary_length(array) if pa.types.is_binary(self._kind) else pc.list_value_length(array)
            self._moments.add(sizes.drop_null().to_numpy(zero_copy_only=False).astype(np.float64))

    def _add_numbers(self, array: pa.Array, draws: Hashes) -> None:
        there = pc.is_valid(array).to_numpy(zero_copy_only=False)
        numbers = array.drop_null().to_numpy(zero_copy_only=False).astype(np.float64)
        self._distinct.add(mixed((numbers + 0.0).view(np.uint64)))
        self._moments.add(numbers)
        picked = np.concatenate([self._picked[0], draws[there]])
        values = np.concatenate([self._picked[1], numbers])
        if len(picked) > self._sample:
            smallest = np.argpartition(picked, self._sample)[:self._sample]
            picked, values = picked[smallest], values[smallest]
        self._picked = (picked, values)

    def _add_names(self, array: pa.Array) -> None:
        counts = pc.value_counts(array.drop_null())
        names = counts.field("values").to_pylist()
        self._distinct.add(np.array([_hash(str(name)) for name in names], dtype=np.uint64))
        self._top.update(dict(zip(names, counts.field("counts").to_pylist(), strict=True)))
        if len(self._top) > MOST_KEPT:
            self._top = Counter(dict(self._top.most_common(KEPT)))
            self._pruned = True

    def told(self) -> dict[str, Any]:
        told: dict[str, Any] = {"type": str(self._kind), "rows": self._rows, "missing": self._missing}
        moments = self._moments
        if pa.types.is_timestamp(self._kind):
            return told | {name: _time(value, moments) for name, value in (("min", moments.low), ("max", moments.high))}
        if moments.count:
            prefix = "" if pa.types.is_floating(self._kind) or pa.types.is_integer(self._kind) else "length_"
            told |= {f"{prefix}mean": moments.mean, f"{prefix}std": math.sqrt(moments.squares / moments.count),
                     f"{prefix}min": moments.low, f"{prefix}max": moments.high}
        if len(self._picked[1]):
            cut = np.quantile(self._picked[1], QUANTILES)
            told["quantiles"] = {f"{share:g}": float(value) for share, value in zip(QUANTILES, cut, strict=True)}
            told["quantiles_exact"] = len(self._picked[1]) == moments.count
        if len(self._distinct.hashes):
            told["distinct"], told["distinct_exact"] = self._distinct.estimate()
        if self._top:
            told["top"] = [{"value": name[:_LONGEST_SHOWN] if isinstance(name, str) else name, "count": count}
                           for name, count in sorted(self._top.items(), key=lambda one: (-one[1], str(one[0])))[:TOP]]
            told["top_exact"] = not self._pruned
        return told


class Profile:
    """Statistics of rows of one schema; `draws` come from where a row was stored, so they are the same every time."""

    def __init__(self, schema: pa.Schema, columns: list[str]) -> None:
        sample = max(MIN_SAMPLE, min(MAX_SAMPLE, SAMPLE_VALUES // max(1, len(columns))))
        self._fields = {name: _Field(schema.field(name).type, sample) for name in columns}
        self.rows = 0

    def add(self, rows: pa.Table, partition: int) -> None:
        self.rows += rows.num_rows
        offsets = rows.column(SOURCE_OFFSET).combine_chunks().to_numpy(zero_copy_only=False).astype(np.uint64)
        draws = mixed(offsets ^ mixed(np.array([partition + 1], np.uint64)))
        for name, one in self._fields.items():
            one.add(rows.column(name), draws)

    def told(self) -> dict[str, Any]:
        return {name: one.told() for name, one in self._fields.items()}


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def _time(value_us: float, moments: _Moments) -> str | None:
    if not moments.count:
        return None
    moment: str = pa.scalar(int(value_us), pa.timestamp("us", tz="UTC")).as_py().isoformat()
    return moment
