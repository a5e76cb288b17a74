"""Texts of a batch have hashes, are packed, and are found to come twice, all as if each were looked at alone."""

from collections.abc import Iterator

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton.bus.records import partition_for
from lepton.contracts.arrow.entities import murmur2_of, partitions_of
from services.ingest.core.keys.keys import Keys, hashes_of
from tests.harness.loops import LOOPS, looping

TEXTS = ["", "a", "a\x00", "ab", "abcdefg", "abcdefgh", "abcdefgh\x00", "abcdefghi", "é" * 40, "x" * 300, "y" * 70_000]


@pytest.fixture(params=LOOPS, autouse=True)
def loops(request: pytest.FixtureRequest) -> Iterator[None]:
    with looping(request.param):
        yield


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


def test_texts_that_differ_have_no_first_whatever_their_hashes() -> None:
    assert Keys(pa.array(["a", "b", "c", "d"]), np.array([0, 1, 0, 1], np.uint64)).firsts() is not None
    assert Keys(pa.array(["a", "b", "c"]), np.array([0, 1 << 20, 1 << 40], np.uint64)).firsts() is None
    assert Keys(pa.array(["a", "a"]), np.array([0, 0], np.uint64)).firsts().tolist() == [0, 0]  # type: ignore[union-attr]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=40), min_size=9, max_size=40), st.integers(0, 9))
def test_python_and_native_loops_say_the_same_of_texts(texts: list[str], start: int) -> None:
    part = pa.array(texts)[start:]
    told = []
    for one in LOOPS:
        with looping(one):
            keys = Keys.of(part)
            told.append((keys.hashes.tolist(), keys.packed(7), murmur2_of(part).tolist()))
    assert told[0] == told[-1]
    assert [partition_for(text.encode(), 12) for text in texts[start:]] == partitions_of(part, 12).tolist()
