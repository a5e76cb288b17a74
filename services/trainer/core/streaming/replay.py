"""Which rows a stream's learner still has at hand: the newest, and a fair sample of all before them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from services.trainer.core.preparing.rows import Inputs

Array = npt.NDArray[Any]

_VALUE = "value/"


class ReplayBuffer:
    """At most `capacity` rows with their labels: all of them while they fit, then a half each, newest and sample.

    Every row that left the newest half is in the sample with equal chance (Vitter 1985), so that what is learnt anew
    from the buffer does not forget what was common long ago.
    """

    def __init__(self, capacity: int, seed: int) -> None:
        self._values: dict[str, Array] = {}
        self._missing = np.zeros((capacity, 0), dtype=bool)
        self._labels = np.zeros(capacity)
        self._order = np.full(capacity, -1, dtype=np.int64)
        self._seed = seed
        self._count = 0

    @property
    def count(self) -> int:
        """Rows there ever were."""
        return self._count

    def add(self, rows: Inputs, labels: Array) -> None:
        """Rows and labels [n], oldest first."""
        if not self._values:
            capacity = len(self._labels)
            self._values = {name: np.zeros((capacity, *some.shape[1:]), some.dtype)
                            for name, some in rows.values.items()}
            self._missing = np.zeros((capacity, rows.missing.shape[1]), dtype=bool)
        begin, at_once = 0, len(self._labels) - len(self._labels) // 2
        if rows.rows <= at_once:
            self._put(rows, labels)
            return
        while begin < rows.rows:
            end = min(rows.rows, begin + at_once)
            self._put(rows.take(np.arange(begin, end)), labels[begin:end])
            begin = end

    def rows(self, newest: int = 0) -> tuple[Inputs, Array]:
        """Rows and labels, oldest first; only the last `newest` of them if any are asked for."""
        places = np.argsort(self._order, kind="stable")
        places = places[self._order[places] >= 0][-newest:]
        return Inputs({name: some[places] for name, some in self._values.items()}, self._missing[places]), \
            self._labels[places]

    def arrays(self) -> dict[str, Array]:
        return {"missing": self._missing.copy(), "labels": self._labels.copy(), "order": self._order.copy(),
                "count": np.array(self._count), **values_of(self._values, self._order >= 0)}

    def load(self, arrays: Mapping[str, Array]) -> None:
        self._values = values_from(arrays)
        self._missing, self._labels = np.array(arrays["missing"]), np.array(arrays["labels"])
        self._order, self._count = np.array(arrays["order"]), int(arrays["count"])

    def _put(self, rows: Inputs, labels: Array) -> None:
        """No more rows than the newest half holds."""
        capacity, sample = len(self._labels), len(self._labels) // 2
        numbers = self._count + np.arange(rows.rows)
        places = np.where(numbers < capacity, numbers, sample + (numbers - sample) % (capacity - sample))
        leaving = places[numbers >= capacity]
        drawn = _drawn(self._seed, self._order[leaving])
        kept = drawn < sample
        # Of several that draw the same place the last one has it, as if they had come one by one.
        self._move(leaving[kept], drawn[kept])
        for name, some in self._values.items():
            some[places] = rows.values[name]
        self._missing[places], self._labels[places], self._order[places] = rows.missing, labels, numbers
        self._count += rows.rows

    def _move(self, sources: Array, places: Array) -> None:
        for one in (*self._values.values(), self._missing, self._labels, self._order):
            one[places] = one[sources]


def values_of(values: Mapping[str, Array], used: Array) -> dict[str, Array]:
    """Values by field as arrays that need no pickle, under names that sort in the fields' order.

    Texts have a mark behind each, which keeps one that ends in NUL whole.
    """
    return {f"{_VALUE}{place:05d}/{name}": some.copy() if not some.dtype.hasobject else np.array(
        [f"{one}." if there else "." for one, there in zip(some, used, strict=True)], dtype=np.str_)
        for place, (name, some) in enumerate(values.items())}


def values_from(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The fields of `values_of` among the arrays, in their order."""
    return {name.split("/", 2)[2]: np.array([str(one)[:-1] for one in arrays[name]], dtype=object)
            if arrays[name].dtype.kind == "U" else np.array(arrays[name])
            for name in sorted(arrays) if name.startswith(_VALUE)}


def _drawn(seed: int, numbers: Array) -> Array:
    """For each row's number a place in [0, number], from the number and the seed alone: no state has to be kept.

    The mixer is splitmix64 (Steele, Lea and Flood 2014).
    """
    mixed = numbers.astype(np.uint64) + np.uint64((seed * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    return np.asarray((mixed.astype(np.float64) / 2.0**64 * (numbers + 1)).astype(np.int64))
