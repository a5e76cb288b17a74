"""Texts that events are known by, with a 64-bit hash each: how they are made, packed, and found to come twice."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from lepton.contracts.arrow.entities import Bytes, ends_and_bytes, offsets_and_bytes
from lepton.native import built
from services.ingest.core.keys.mixing import mixed, mixed_alone
from services.ingest.core.keys.table import Hashes, Places

# Drawn anew by every process, so that nobody can send texts whose hashes are alike. Nothing that is kept depends on it.
_SEED = np.uint64(secrets.randbits(64))
_ODD = np.uint64(0x9E3779B97F4A7C15)
_MASK = 2**64 - 1
_FULL = np.uint64(_MASK)
# Rows whose hashes stay in the processor's cache.
_AT_ONCE = 16_384
# Texts that are hashed one by one: so few are dearer as columns.
_FEW = 8
# Bytes of the longest text whose length msgpack says in two bytes. Ids and entities are much shorter.
_MAX_BYTES = 0xFFFF

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, list[str]]).decode


@dataclass(frozen=True, slots=True)
class Keys:
    """`texts` (string, none missing) and the hash of each, which is of this process alone."""

    texts: pa.StringArray
    hashes: Hashes

    @classmethod
    def of(cls, texts: "Sequence[str] | pa.StringArray") -> "Keys":
        array = texts if isinstance(texts, pa.Array) else pa.array(texts, pa.string())
        return cls(array, hashes_of(array))

    def __len__(self) -> int:
        return len(self.hashes)

    def __getitem__(self, part: slice) -> "Keys":
        return Keys(self.texts[part], self.hashes[part])

    def take(self, rows: Places) -> "Keys":
        return Keys(self.texts.take(pa.array(rows, pa.int64())), self.hashes[rows])

    def joined(self, other: "Keys") -> "Keys":
        """These, then the others."""
        return Keys(pa.concat_arrays([self.texts, other.texts]), np.concatenate((self.hashes, other.hashes)))

    def firsts(self) -> Places | None:
        """For each the place of the first with the same text, its own for most; None when no text comes twice."""
        loops = built()
        if loops is not None and not loops.repeated(self.hashes.tobytes()):
            return None
        ordered = np.sort(self.hashes)
        again = ordered[1:][ordered[1:] == ordered[:-1]]
        if not len(again):
            return None
        alike: Places = np.flatnonzero(np.isin(self.hashes, again))
        found = np.arange(len(self), dtype=np.int64)
        seen: dict[str, int] = {}
        for place, text in zip(alike.tolist(), self.texts.take(pa.array(alike)).to_pylist(), strict=True):
            found[place] = seen.setdefault(text, place)
        return found

    def packed(self, number: int) -> bytes:
        """The msgpack of `[number, texts]`, byte for byte as msgspec writes it."""
        loops = built()
        packed = _packed(self.texts) if loops is None else loops.packed(*ends_and_bytes(self.texts))
        if packed is None:
            return _encode((number, self.texts.to_pylist()))
        # What comes before the texts is the same whatever they are, and a None is one byte.
        head = _encode((number, [None] * len(self)))
        return bytes(head[:len(head) - len(self)] + packed)

    @staticmethod
    def unpacked(data: bytes) -> "tuple[int, Keys]":
        """The inverse of `packed`. Raises msgspec.MsgspecError or ValueError for other bytes."""
        number, texts = _decode(data)
        return number, Keys.of(texts)


def hashes_of(texts: pa.StringArray) -> Hashes:
    """Of each text's UTF-8, eight bytes at a time."""
    if len(texts) <= _FEW:
        return np.array([_hash_of(text.encode()) for text in texts.to_pylist()], np.uint64)
    loops = built()
    if loops is not None:
        return np.frombuffer(loops.hashes(*ends_and_bytes(texts), int(_SEED)), np.uint64)
    starts, data = offsets_and_bytes(texts)
    starts, data = starts - starts[0], data[starts[0]:starts[-1]]
    # Every eight bytes in a row as a number, wherever they begin; the zeros keep the last ones inside.
    words = np.ndarray((len(data) + 1,), "<u8", np.concatenate((data, np.zeros(8, np.uint8))), strides=(1,))
    found = np.empty(len(texts), np.uint64)
    for start in range(0, len(texts), _AT_ONCE):
        stop = min(start + _AT_ONCE, len(texts))
        found[start:stop] = _hashed(words, starts[start:stop], np.diff(starts[start:stop + 1]))
    return found


def _hashed(words: Hashes, starts: Places, lengths: Places) -> Hashes:
    value = lengths.astype(np.uint64) * _ODD ^ _SEED
    for at in range(0, int(lengths.max(initial=0)), 8):
        left = lengths - at
        rows: Any = slice(None) if int(left.min()) > 0 else np.flatnonzero(left > 0)
        left = left[rows]
        # Bytes past the end of a text belong to the next one.
        word = words[starts[rows] + at] & (_FULL >> (np.maximum(8 - left, 0) * 8).astype(np.uint64))
        value[rows] = mixed(value[rows] ^ word)
    return mixed(value)


def _hash_of(text: bytes) -> int:
    """The same of one text."""
    value = len(text) * int(_ODD) & _MASK ^ int(_SEED)
    for at in range(0, len(text), 8):
        value = mixed_alone(value ^ int.from_bytes(text[at:at + 8], "little"))
    return mixed_alone(value)


def _packed(texts: pa.StringArray) -> bytes | None:
    """Their msgpack, one after the other; None where one is longer than two bytes can say."""
    starts, data = offsets_and_bytes(texts)
    lengths = np.diff(starts)
    if int(lengths.max(initial=0)) > _MAX_BYTES:
        return None
    return _with_heads(lengths, data[starts[0]:starts[-1]])


def _with_heads(lengths: Places, data: Bytes) -> bytes:
    """Texts of these lengths, each begun as msgpack begins one: a byte, and one or two more for a long one's length."""
    long, longer = lengths >= 32, lengths >= 256
    ends = np.cumsum(lengths + 1 + long + longer)
    if not len(ends):
        return b""
    heads = np.concatenate((ends[:1] * 0, ends[:-1]))
    packed = np.empty(int(ends[-1]), np.uint8)
    is_text = np.ones(len(packed), np.bool_)
    is_text[heads] = False
    packed[heads] = np.where(longer, 0xDA, np.where(long, 0xD9, 0xA0 | lengths))
    if long.any():
        last = heads[long] + 1 + longer[long]
        is_text[last], packed[last] = False, lengths[long] & 0xFF
        middle = heads[longer] + 1
        is_text[middle], packed[middle] = False, lengths[longer] >> 8
    packed[is_text] = data
    return packed.tobytes()
