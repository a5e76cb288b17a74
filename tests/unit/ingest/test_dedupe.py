"""Duplicates are known within the window, after a commit only, and after a restart too."""

import numpy as np
import pyarrow as pa
import pytest

from lepton.errors import Invalid
from services.ingest.core.dedupe import CHUNK_MAX, CHUNK_MIN, LastLabels, Seen, keys_of
from services.ingest.core.keys.keys import Keys


def commit(seen: Seen, keys: list[str], stored: dict[bytes, bytes] | None = None) -> None:
    plan = seen.plan(keys)
    if stored is not None:
        stored.update(plan.records)
    seen.apply(plan)


def names(first: int, count: int) -> list[str]:
    return [f"k{number}" for number in range(first, first + count)]


def test_a_key_counts_once_within_and_across_batches() -> None:
    seen = Seen(100)
    assert seen.duplicates(["a", "b", "a", "a"]) == [2, 3]
    commit(seen, ["a", "b"])
    assert seen.duplicates(["b", "c", "c"]) == [0, 2]
    assert len(seen) == 2


def test_an_aborted_batch_leaves_no_memory() -> None:
    seen = Seen(100)
    seen.plan(["a"])
    assert seen.duplicates(["a"]) == []


def test_the_window_is_kept_and_little_more() -> None:
    seen = Seen(2000)
    for start in range(0, 20_000, 700):
        commit(seen, names(start, 700))
    newest = 20_300 - 1
    assert seen.duplicates(names(newest - 1999, 2000)) == list(range(2000))
    assert seen.duplicates(["k0"]) == []
    assert 2000 <= len(seen) <= 2000 + CHUNK_MAX


def test_without_window_nothing_is_remembered() -> None:
    seen = Seen(0)
    commit(seen, ["a"])
    assert seen.duplicates(["a", "a"]) == []
    assert seen.plan(["a"]).records == []


@pytest.mark.parametrize("batch", [1, 3, 511, 700, 5000, 9000])
def test_memory_comes_back_from_what_was_written(batch: int) -> None:
    seen, stored = Seen(3000), dict[bytes, bytes]()
    count = max(batch * 5, 7000)
    for start in range(0, count, batch):
        commit(seen, names(start, batch), stored)
    again = Seen(3000)
    again.restore(stored.values())
    probe = names(0, count + batch)
    assert again.duplicates(probe) == seen.duplicates(probe)
    assert len(again) == len(seen)
    commit(again, ["after"], stored)
    third = Seen(3000)
    third.restore(stored.values())
    assert third.duplicates(["after"]) == [0]


def test_small_batches_write_little_and_the_slots_are_few() -> None:
    seen, stored = Seen(3000), dict[bytes, bytes]()
    for number in range(8000):
        plan = seen.plan([f"k{number}"])
        assert len(plan.records) == 1
        assert len(plan.records[0][1]) < CHUNK_MIN * 10
        stored.update(plan.records)
        seen.apply(plan)
    assert len(stored) <= (3000 + CHUNK_MAX) // CHUNK_MIN + 2


def test_a_smaller_window_then_a_larger_one_forgets_the_slots_between() -> None:
    stored: dict[bytes, bytes] = {}
    large = Seen(20_000)
    commit(large, names(0, 15_000), stored)
    small = Seen(600)
    small.restore(stored.values())
    assert small.duplicates(names(14_400, 600)) == list(range(600))
    for start in range(15_000, 40_000, 600):
        commit(small, names(start, 600), stored)
    again = Seen(20_000)
    again.restore(stored.values())
    assert again.duplicates(names(39_500, 100)) == list(range(100))
    assert again.duplicates(names(3000, 100)) == []


def test_a_record_that_cannot_be_read_stops_the_restore() -> None:
    for damage in (b"", b"\xc1", b"\x93\x01\x02\x03"):
        with pytest.raises(Invalid, match="cannot be read"):
            Seen(10).restore([damage])


def alike(texts: list[str], hashes: int = 2) -> Keys:
    """Keys of which many have a hash in common."""
    return Keys(pa.array(texts, pa.string()), np.array([len(text) % hashes for text in texts], np.uint64))


def test_keys_with_one_hash_are_told_apart() -> None:
    seen = Seen(600)
    seen.apply(seen.plan(alike(["a", "ccc", "bb"])))
    assert seen.duplicates(alike(["a", "eee", "ccc", "bb", "dd", "eee"])) == [0, 2, 3, 5]
    seen.apply(seen.plan(alike(["eee", "dd"])))
    assert seen.known(alike(["a", "bb", "ccc", "dd", "eee", "f"])).tolist() == [True] * 5 + [False]


def test_keys_with_one_hash_leave_the_window_each_in_its_turn() -> None:
    seen, order = Seen(600), [f"{number:04d}{'x' * (number % 2)}" for number in range(5000)]
    for start in range(0, len(order), 500):
        seen.apply(seen.plan(alike(order[start:start + 500])))
    kept = len(seen)
    assert 600 <= kept <= 600 + CHUNK_MAX
    assert seen.known(alike(order)).tolist() == [False] * (5000 - kept) + [True] * kept
    assert len(seen._alike) <= kept


def test_nothing_stored_is_an_empty_window() -> None:
    seen = Seen(10)
    seen.restore([])
    assert len(seen) == 0


def test_keys_tell_id_and_entity_apart() -> None:
    ids = ["a", "ab"]
    assert keys_of(ids, ids) is ids
    assert len(set(keys_of(["a", "ab"], ["bc", "c"]))) == 2


def learn(labels: LastLabels, entries: list[tuple[str, ...]], stored: dict[bytes, bytes]) -> None:
    plan = labels.plan(entries)
    stored.update(plan.records)
    labels.apply(plan)


def test_the_same_label_again_is_a_duplicate_and_another_a_correction() -> None:
    labels, stored = LastLabels(1000), dict[bytes, bytes]()
    assert labels.duplicates([("e", "True"), ("e", "True"), ("e", "False"), ("e", "True")]) == [1]
    learn(labels, [("e", "True"), ("e", "False")], stored)
    assert labels.duplicates([("e", "False")]) == [0]
    assert labels.duplicates([("e", "True")]) == []
    again = LastLabels(1000)
    again.restore(stored.values())
    assert again.duplicates([("e", "False"), ("f", "False")]) == [0]


def test_a_label_said_again_of_a_later_time_is_none_that_was_said() -> None:
    labels, stored = LastLabels(1000), dict[bytes, bytes]()
    # What has the latest time counts, so of true at 10, true at 12 and false at 11 it is the second.
    assert labels.duplicates([("e", "True", "10"), ("e", "True", "12"), ("e", "False", "11"), ("e", "False", "11"),
                              ("e", "False")]) == [3, 4]
    learn(labels, [("e", "True", "12"), ("f", "True")], stored)
    again = LastLabels(1000)
    again.restore(stored.values())
    for one in (labels, again):
        assert one.duplicates([("e", "True", "11"), ("e", "True", "12"), ("e", "True"), ("f", "True")]) == [0, 1, 2, 3]
        assert one.duplicates([("e", "True", "13"), ("f", "True", "1")]) == []


def test_labels_fall_out_of_their_window_unless_said_again() -> None:
    labels, stored = LastLabels(600), dict[bytes, bytes]()
    learn(labels, [("old", "1"), ("kept", "1"), *((f"e{number}", "1") for number in range(600))], stored)
    learn(labels, [("kept", "2")], stored)
    for start in range(0, 1200, 600):
        learn(labels, [(f"f{number}", "1") for number in range(start, start + 600)], stored)
    assert labels.duplicates([("old", "1"), ("kept", "1"), ("f1199", "1")]) == [2]
    assert LastLabels(0).duplicates([("a", "1"), ("a", "1")]) == []
