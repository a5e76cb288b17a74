"""Texts of a batch have hashes, are packed, and are found to come twice, all as if each were looked at alone."""

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from services.ingest.core.keys.keys import Keys, hashes_of

TEXTS = ["", "a", "a\x00", "ab", "abcdefg", "abcdefgh", "abcdefgh\x00", "abcdefghi", "é" * 40, "x" * 300, "y" * 70_000]


def test_a_text_has_its_hash_wherever_it_lies_and_no_other_has_it() -> None:
    hashes = hashes_of(pa.array(TEXTS))
    assert len(set(hashes.tolist())) == len(TEXTS)
    # A few are hashed one by one, many as a column.
    assert [hashes_of(pa.array([text]))[0] for text in TEXTS] == hashes.tolist()
    assert hashes_of(pa.array(TEXTS * 5)).tolist() == hashes.tolist() * 5
    assert hashes_of(pa.array(["before", *TEXTS])[1:]).tolist() == hashes.tolist()
    assert len(hashes_of(pa.array([], pa.string()))) == 0


@pytest.mark.parametrize("length", [0, 1, 31, 32, 255, 256, 65_535, 65_536])
@pytest.mark.parametrize("count", [0, 1, 15, 16])
def test_texts_are_packed_byte_for_byte_as_msgspec_does(length: int, count: int) -> None:
    texts = ["é", *["x" * length] * count, "after"][: count + 1] if count else []
    keys = Keys.of(["skipped", *texts])[1:]
    assert keys.packed(70_000) == msgspec.msgpack.encode((70_000, texts))
    number, again = Keys.unpacked(keys.packed(3))
    assert (number, again.texts.to_pylist(), again.hashes.tolist()) == (3, texts, keys.hashes.tolist())


def test_the_first_of_those_alike_is_known_by_the_text_not_by_the_hash() -> None:
    assert Keys.of(["a", "b", "c"]).firsts() is None
    alike = Keys(pa.array(["a", "b", "a", "c", "b", "a"]), np.array([7, 7, 7, 1, 7, 7], np.uint64))
    firsts = alike.firsts()
    assert firsts is not None
    assert firsts.tolist() == [0, 1, 0, 3, 1, 0]
