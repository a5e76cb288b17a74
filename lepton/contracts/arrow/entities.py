"""Ids and entities a whole column at a time: which are none, and which partition each entity belongs to."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lepton.contracts.reading.identity import MAX_ID_CHARACTERS
from lepton.native import built

_CONTROL = r"[\x00-\x1f\x7f]"
_SEED = np.uint32(0x9747B28C)
_MIX = np.uint32(0x5BD1E995)
# Rows whose numbers stay in the processor's cache.
_AT_ONCE = 16_384

Numbers = np.ndarray[Any, np.dtype[np.int64]]
Words = np.ndarray[Any, np.dtype[np.uint32]]
Bytes = np.ndarray[Any, np.dtype[np.uint8]]


def texts_of(column: pa.Array) -> pa.StringArray:
    """Names as text; a whole number stands for its digits."""
    return column if pa.types.is_string(column.type) else pc.cast(column, pa.string())


def wrong_names(names: pa.StringArray) -> Iterator[tuple[pa.BooleanArray, str, str]]:
    """Which texts can name nothing, with a code and why, one reason after the other; as `reading.identity` has it."""
    if names.null_count:
        yield names.is_null(), "missing", "is missing"
    lengths = pc.binary_length(names)
    if pc.min(lengths).as_py() == 0:
        yield pc.equal(lengths, 0), "out_of_range", "is empty"
    if (pc.max(lengths).as_py() or 0) > MAX_ID_CHARACTERS:
        yield (pc.greater(pc.utf8_length(names), MAX_ID_CHARACTERS), "out_of_range",
               f"longer than {MAX_ID_CHARACTERS} characters")
    if _may_have_control(names):
        yield pc.match_substring_regex(names, _CONTROL), "malformed", "holds control characters"


def _may_have_control(names: pa.StringArray) -> bool:
    """A no is right; a yes may be about bytes of a missing value."""
    starts, data = offsets_and_bytes(names)
    letters = data[starts[0]:starts[-1]]
    return bool(((letters < 32) | (letters == 127)).any())


def partitions_of(entities: pa.StringArray, count: int) -> Numbers:
    """The partition, of `count`, of each entity (text, none missing), as `lepton.bus.records.partition_for` has it."""
    if count == 1 or len(entities) == 0:
        return np.zeros(len(entities), np.int64)
    return (murmur2_of(entities) & np.uint32(0x7FFFFFFF)).astype(np.int64) % count


def murmur2_of(texts: pa.StringArray) -> Words:
    """MurmurHash2 of each text's UTF-8, as the Java client computes it, all texts of one length at a time.

    Source: Austin Appleby's MurmurHash2 with the seed of Kafka's `Utils.murmur2`; sums and products wrap at 32 bits.
    """
    loops = built()
    if loops is not None:
        return np.frombuffer(loops.murmur2(*ends_and_bytes(texts)), np.uint32)
    starts, data = offsets_and_bytes(texts)
    # Every four bytes in a row as a number, wherever they begin; the zeros keep the last ones inside.
    words = np.ndarray((len(data) + 1,), "<u4", np.concatenate((data, np.zeros(4, np.uint8))), strides=(1,))
    lengths = np.diff(starts)
    hashes = np.empty(len(texts), np.uint32)
    for length in np.flatnonzero(np.bincount(lengths)).tolist():
        same = np.flatnonzero(lengths == length)
        for start in range(0, len(same), _AT_ONCE):
            some = same[start:start + _AT_ONCE]
            hashes[some] = _of_length(words, starts[some], length)
    return hashes


def _of_length(words: Words, starts: Numbers, length: int) -> Words:
    value = np.full(len(starts), _SEED ^ np.uint32(length), np.uint32)
    for at in range(0, length & ~3, 4):
        word = words[starts + at] * _MIX
        word ^= word >> np.uint32(24)
        word *= _MIX
        value *= _MIX
        value ^= word
    if rest := length & 3:
        value ^= words[starts + (length - rest)] & np.uint32((1 << 8 * rest) - 1)
        value *= _MIX
    value ^= value >> np.uint32(13)
    value *= _MIX
    value ^= value >> np.uint32(15)
    return value


def offsets_and_bytes(texts: "pa.StringArray | pa.BinaryArray") -> tuple[Numbers, Bytes]:
    """Where each text begins (one more at the end), and all bytes they point into."""
    if len(texts) == 0:
        return np.zeros(1, np.int64), np.empty(0, np.uint8)
    _, offsets, data = texts.buffers()
    # A buffer may be longer than its offsets, by any number of bytes.
    starts = np.frombuffer(offsets, np.int32, texts.offset + len(texts) + 1)[texts.offset:].astype(np.int64)
    return starts, np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)


def ends_and_bytes(texts: "pa.StringArray") -> tuple[bytes, bytes]:
    """The same as the native loops take them: int32, and the bytes of these texts alone."""
    if len(texts) == 0:
        return bytes(4), b""
    _, offsets, data = texts.buffers()
    starts = np.frombuffer(offsets, np.int32, texts.offset + len(texts) + 1)[texts.offset:]
    return starts.tobytes(), data[int(starts[0]):int(starts[-1])].to_pybytes() if data is not None else b""
