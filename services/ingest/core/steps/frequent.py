"""The most frequent values of a category field in a bounded number of counters, mergeable."""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

COUNTERS = 64
MAX_CHARS = 100
# As many are counted one by one in less time than a column's functions take to begin.
FEW_ROWS = 64


@dataclass(frozen=True, slots=True)
class Frequent:
    """Counts by value, each too low by at most `error`, which is at most the values seen / (COUNTERS + 1).

    Misra and Gries 1982, fed and merged as in Agarwal et al., "Mergeable summaries", PODS 2012. Exact (`error` 0)
    while a field has at most COUNTERS values. Values are told apart by their first MAX_CHARS characters.
    """

    counts: dict[str, int] = field(default_factory=dict)
    error: int = 0

    def fed(self, column: pa.Array) -> "Frequent":
        """With a column of text added; nulls are no values."""
        if column.null_count == len(column):
            return self
        if len(column) <= FEW_ROWS:
            counts = dict(self.counts)
            for text in column.to_pylist():
                if text is not None:
                    counts[text[:MAX_CHARS]] = counts.get(text[:MAX_CHARS], 0) + 1
            if len(counts) <= COUNTERS:
                return Frequent(counts, self.error)
        counted = pc.value_counts(column.drop_null() if column.null_count else column)
        return self._with(pc.utf8_slice_codeunits(counted.field(0), 0, MAX_CHARS), counted.field(1), 0)

    def merge(self, other: "Frequent") -> "Frequent":
        return self._with(pa.array(list(other.counts), pa.string()), pa.array(list(other.counts.values()), pa.int64()),
                          other.error)

    def top(self, most: int = COUNTERS) -> list[tuple[str, int]]:
        """Values and counts, the most frequent first, equal ones by name."""
        return sorted(self.counts.items(), key=lambda one: (-one[1], one[0]))[:most]

    def _with(self, values: pa.Array, counts: pa.Array, error: int) -> "Frequent":
        numbers = counts.to_numpy(zero_copy_only=False)
        known = pc.index_in(values, value_set=pa.array(list(self.counts), pa.string()))
        places = pc.fill_null(known, -1).to_numpy(zero_copy_only=False)
        mine = np.fromiter(self.counts.values(), np.int64, len(self.counts))
        np.add.at(mine, places[places >= 0], numbers[places >= 0])
        new = np.flatnonzero(places < 0)
        cut = self._cut(mine, numbers[new])
        found = {value: int(count) - cut for value, count in zip(self.counts, mine, strict=True) if count > cut}
        new = new[numbers[new] > cut]
        for value, count in zip(values.take(pa.array(new)).to_pylist(), numbers[new].tolist(), strict=True):
            found[value] = found.get(value, -cut) + count
        return Frequent(found, self.error + error + cut)

    @staticmethod
    def _cut(mine: "np.ndarray[tuple[int], np.dtype[np.int64]]", new: "np.ndarray[tuple[int], np.dtype[np.int64]]"
             ) -> int:
        """What is taken from every counter so that at most COUNTERS are left."""
        both = np.concatenate((mine, new))
        return int(np.partition(both, -COUNTERS - 1)[-COUNTERS - 1]) if len(both) > COUNTERS else 0
