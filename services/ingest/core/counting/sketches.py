"""What of a field's values fits into a few kilobytes: quantiles, distinct values, frequent values; all of it mergeable.

Quantiles are a KLL sketch, frequent values a frequent-items sketch, distinct values an HLL sketch (Karnin, Lang and
Liberty 2016; Anderson et al. 2017; Flajolet et al. 2007), in the bytes of Apache DataSketches. The library takes one
value a call for HLL, which cost eight times what hashing a whole column with numpy does, so the registers are filled
here and handed to it in its own form; estimates and unions are the library's. Its hash is not ours: merge only
sketches that came from here.
"""

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasketches import (
    HLL_4,
    HLL_8,
    frequent_items_error_type,
    frequent_strings_sketch,
    hll_sketch,
    hll_union,
    kll_doubles_sketch,
)

from lepton.contracts.pb.quality_pb2 import FieldQuality, Histogram, ValueCount
from lepton.errors import Invalid
from lepton.native import built
from services.ingest.core.keys.mixing import mixed

KLL_K = 200
HLL_LG_K = 11
FREQUENT_LG_SIZE = 6
RANKS = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
BINS = 20
TOP = 10
SAMPLE_ROWS = 2_000
"""Most values of a batch a sketch is shown where that is dear; every n-th one, so that a replay samples the same."""
MAX_VALUE_CHARS = 64

Kind = Literal["number", "value", "text"]
Array = np.ndarray[Any, np.dtype[Any]]

# HLL_8, dense, compact, estimate from registers alone: preamble ints, version, family, lg k, list size, flags, minimum,
# mode; see "HLL sketch" in the binary formats of Apache DataSketches.
_HLL_HEAD = bytes((10, 1, 7, HLL_LG_K, 0, 0b11000, 0, 0b1010))
_REGISTERS = 1 << HLL_LG_K


@dataclass(slots=True)
class Sketch:
    """Values of one field. `kind`: numbers have quantiles, values are counted by value, text is neither."""

    kind: Kind
    seen: int = 0
    """Values the quantiles, or the frequent values, or the distinct ones of text were shown."""
    quantiles: Any = None
    registers: Array | None = None
    frequent: Any = field(default=None)

    def add(self, other: "Sketch") -> None:
        self.seen += other.seen
        if other.quantiles is not None:
            if self.quantiles is None:
                self.quantiles = kll_doubles_sketch(KLL_K)
            self.quantiles.merge(other.quantiles)
        if other.frequent is not None:
            if self.frequent is None:
                self.frequent = frequent_strings_sketch(FREQUENT_LG_SIZE)
            self.frequent.merge(other.frequent)
        if other.registers is not None:
            self.registers = other.registers.copy() if self.registers is None \
                else np.maximum(self.registers, other.registers)

    def tell(self, told: FieldQuality) -> None:
        """Write the sketches, and what a reader wants of them, into the message."""
        told.sketched = self.seen
        if self.registers is not None:
            distinct = _hll(self.registers)
            told.distinct_sketch = _small(distinct)
            told.distinct = distinct.get_estimate()
        if self.quantiles is not None and not self.quantiles.is_empty():
            told.quantile_sketch = self.quantiles.serialize()
            told.quantiles.extend(self.quantiles.get_quantiles(list(RANKS), inclusive=True))
            told.histogram.CopyFrom(_histogram(self.quantiles))
        if self.frequent is not None and not self.frequent.is_empty():
            told.frequent_sketch = self.frequent.serialize()
            told.top.extend(_top(self.frequent))


def of_numbers(numbers: Array) -> Sketch:
    """Of finite or infinite doubles without NaN; infinite ones have no place in a quantile or a histogram."""
    sketch = Sketch("number", registers=_registers(np.ascontiguousarray(numbers + 0.0).view(np.uint64)))
    sample = np.ascontiguousarray(numbers[:: _stride(len(numbers))])
    sample = sample[np.isfinite(sample)]
    sketch.quantiles = kll_doubles_sketch(KLL_K)
    sketch.quantiles.update(sample)
    sketch.seen = len(sample)
    return sketch


def of_column(column: pa.Array, *, counted: bool) -> Sketch | None:
    """Of a column of neither numbers nor nulls; `counted` says its texts are categories. None for vectors and such."""
    if pa.types.is_boolean(column.type) or (counted and pa.types.is_string(column.type)):
        return of_values(column)
    return of_texts(column) if pa.types.is_string(column.type) else None


def of_values(column: pa.Array) -> Sketch:
    """Of categories or truth values, none of them null."""
    texts, weights = _counts_of(column)
    texts, weights = texts[:SAMPLE_ROWS], weights[:SAMPLE_ROWS]
    sketch = Sketch("value", sum(weights), registers=_registers(_hashed(texts)))
    sketch.frequent = frequent_strings_sketch(FREQUENT_LG_SIZE)
    for text, weight in zip(texts, weights, strict=True):
        sketch.frequent.update(text[:MAX_VALUE_CHARS], weight)
    return sketch


def _counts_of(column: pa.Array) -> tuple[list[str], list[int]]:
    """The different values as texts, in the order they first come, and how often each does."""
    if not pa.types.is_boolean(column.type):
        found = pc.value_counts(column)
        return found.field("values").to_pylist(), found.field("counts").to_pylist()
    counts = {"true": column.true_count, "false": column.false_count}
    first = "true" if column[0].as_py() else "false"
    told = sorted((text for text, count in counts.items() if count), key=lambda text: text != first)
    return told, [counts[text] for text in told]


def of_texts(column: pa.Array) -> Sketch:
    """Of free text, none null. Only how many there are is kept: a text may be about a person."""
    stride = _stride(len(column))
    sample = column if stride == 1 else column.take(pa.array(np.arange(0, len(column), stride)))
    return Sketch("text", len(sample), registers=_registers(_hashed(pc.unique(sample).to_pylist())))


def read(told: FieldQuality) -> Sketch | None:
    """The sketch in a message; None where there is none. Raises Invalid for bytes that are no sketches of ours."""
    if not (told.quantile_sketch or told.distinct_sketch or told.frequent_sketch):
        return None
    kind: Kind = "number" if told.quantile_sketch else "value" if told.frequent_sketch else "text"
    sketch = Sketch(kind, told.sketched)
    try:
        if told.quantile_sketch:
            sketch.quantiles = kll_doubles_sketch.deserialize(told.quantile_sketch)
        if told.frequent_sketch:
            sketch.frequent = frequent_strings_sketch.deserialize(told.frequent_sketch)
        if told.distinct_sketch:
            sketch.registers = _unpacked(hll_sketch.deserialize(told.distinct_sketch))
    except (ValueError, RuntimeError, IndexError, MemoryError, TypeError) as error:
        raise Invalid(f"a sketch of {told.field} cannot be read: {error}", field="fields") from error
    return sketch


def _stride(rows: int) -> int:
    return max(1, -(-rows // SAMPLE_ROWS))


def _hashed(texts: Iterable[str]) -> Array:
    """Checksums of texts, which are told apart by 32 bits: past ten million of them a sketch tells 0.1 % too few."""
    return np.fromiter((zlib.crc32(text.encode()) for text in texts), np.uint64)


def _registers(bits: Array) -> Array:
    """The greatest rank of a set bit for each of 2^lg_k cells, of well-spread 64-bit hashes of 64-bit values."""
    loops = built()
    if loops is not None:
        return np.frombuffer(loops.registers(bits.tobytes(), HLL_LG_K), np.uint8)
    hashes = mixed(bits + np.uint64(0x9E3779B97F4A7C15))
    registers = np.zeros(_REGISTERS, np.uint8)
    cells = (hashes >> np.uint64(64 - HLL_LG_K)).view(np.int64)
    # The rank is told by the exponent of a double; the bit set at the end bounds it where all others are clear.
    ranks = ((hashes << np.uint64(HLL_LG_K)) | np.uint64(1 << (HLL_LG_K - 1))).astype(np.float64).view(np.int64)
    ranks >>= 52
    np.subtract(64 + 1023, ranks, out=ranks)
    np.maximum.at(registers, cells, ranks.astype(np.uint8))
    return registers


def _hll(registers: Array) -> Any:
    weights = np.ldexp(1.0, -registers.astype(np.int32))
    low, high = float(weights[registers < 32].sum()), float(weights[registers >= 32].sum())
    zeros = int(np.count_nonzero(registers == 0))
    return hll_sketch.deserialize(_HLL_HEAD + struct.pack("<dddii", 0.0, low, high, zeros, 0) + registers.tobytes())


def _small(sketch: Any) -> bytes:
    """Half the bytes, the same registers."""
    union = hll_union(HLL_LG_K)
    union.update(sketch)
    return bytes(union.get_result(HLL_4).serialize_compact())


def _unpacked(sketch: Any) -> Array:
    union = hll_union(HLL_LG_K)
    union.update(sketch)
    dense = union.get_result(HLL_8).serialize_updatable()
    if sketch.lg_config_k != HLL_LG_K or len(dense) < 40 + _REGISTERS:
        raise ValueError(f"not a dense HLL sketch of lg k {HLL_LG_K}")
    return np.frombuffer(dense, np.uint8, _REGISTERS, 40).copy()


def _histogram(sketch: Any) -> Histogram:
    """Bins of one width between the first and the last percentile, and one for each tail: outliers blur no shape."""
    low, high = float(sketch.get_min_value()), float(sketch.get_max_value())
    seen = float(sketch.n)
    first, last = sketch.get_quantiles([RANKS[0], RANKS[-1]], inclusive=True)
    inner = np.linspace(first, last, BINS - 1).tolist()
    splits = [edge for edge in sorted(set(inner)) if low < edge < high and np.isfinite(edge)]
    counts = [share * seen for share in sketch.get_pmf(splits)] if splits else [seen]
    return Histogram(edges=[low, *splits, high], counts=counts)


def _top(sketch: Any) -> list[ValueCount]:
    found = sketch.get_frequent_items(frequent_items_error_type.NO_FALSE_NEGATIVES)
    return [ValueCount(value=value, count=count)
            for value, count, _, _ in sorted(found, key=lambda item: (-item[1], item[0]))[:TOP]]
