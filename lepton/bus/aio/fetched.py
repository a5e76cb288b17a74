"""Records of a fetch that become Python objects one by one, when somebody looks at them, and columns when they ask."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from lepton.bus.records import Record

if TYPE_CHECKING:
    from lepton.native.loops import Records

Wholes = np.ndarray[Any, np.dtype[np.int64]]

# Made at once where all are asked for.
_AT_ONCE = 1024
_new = tuple.__new__


class Fetched(Sequence[Record]):
    """Of one partition, in offset order. What they were read from stays in memory as long as this does."""

    def __init__(self, topic: str, partition: int, records: "Records") -> None:
        self._topic = topic
        self._partition = partition
        self._records = records

    def joined(self, others: "Sequence[Fetched]") -> "Fetched":
        """These, then the others, all of the same partition."""
        return Fetched(self._topic, self._partition,
                       type(self._records).joined([self._records, *(other._records for other in others)]))

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, place: int, /) -> Record: ...
    @overload
    def __getitem__(self, place: slice, /) -> Sequence[Record]: ...
    def __getitem__(self, place: int | slice, /) -> Record | Sequence[Record]:
        size = len(self._records)
        if isinstance(place, slice):
            start, stop, step = place.indices(size)
            if step != 1:
                return list(self)[place]
            return Fetched(self._topic, self._partition, self._records.part(start, max(start, stop)))
        place = place + size if place < 0 else place
        if not 0 <= place < size:
            raise IndexError(f"no record {place} of {size}")
        return self._told(place, place + 1)[0]

    def __iter__(self) -> Iterator[Record]:
        for start in range(0, len(self), _AT_ONCE):
            yield from self._told(start, min(start + _AT_ONCE, len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # as of a list

    def __repr__(self) -> str:
        return f"<{len(self)} records of {self._topic}/{self._partition}>"

    def _told(self, start: int, stop: int) -> list[Record]:
        return [_new(Record, told) for told in self._records.told(self._topic, self._partition, start, stop)]

    # -- as columns ---------------------------------------------------------------------------------------------

    def offsets(self) -> Wholes:
        return np.frombuffer(self._records.offsets(), np.int64)

    def timestamps_ms(self) -> Wholes:
        return np.frombuffer(self._records.timestamps(), np.int64)

    def odd(self) -> bytes:
        """A byte for each: 1 where it has headers or no value."""
        return self._records.odd()

    def values(self) -> tuple[bytes, bytes]:
        """All values, one after the other, and where each begins and the last ends, as int64."""
        return self._records.values()
