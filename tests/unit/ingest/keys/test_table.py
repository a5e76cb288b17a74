"""The newest entry of a hash is found, whatever else was added, for as long as it lives."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton.native import Wanted
from services.ingest.core.keys.table import newest
from tests.harness.loops import LOOPS, looping

# Few hashes, of which many want the same slots.
HASHES = st.integers(0, 40).map(lambda number: number << 10 | (number % 3) << 41)
BATCHES = st.lists(st.tuples(st.lists(HASHES, max_size=12), st.integers(0, 12)), max_size=12)


def hashes(*found: int) -> "np.ndarray[tuple[int], np.dtype[np.uint64]]":
    return np.array(found, np.uint64)


@pytest.mark.parametrize("loops", LOOPS)
@settings(max_examples=60, deadline=None)
@given(BATCHES)
def test_a_table_knows_what_a_dict_knows(loops: Wanted, batches: list[tuple[list[int], int]]) -> None:
    with looping(loops):
        table = newest()
    known, count, oldest = dict[int, int](), 0, 0
    for batch, gone in batches:
        numbers = np.arange(count, count + len(batch))
        left_out = table.add(hashes(*batch), numbers, oldest).tolist()
        added = [place for place in range(len(batch)) if place not in left_out]
        # Of several alike in a batch one is added, whichever.
        assert sorted(batch[place] for place in added) == sorted(set(batch) - set(known))
        known |= {batch[place]: count + place for place in added}
        count += len(batch)
        oldest = min(count, oldest + gone)
        known = {one: number for one, number in known.items() if number >= oldest}
        probe = [*batch, *(number << 10 | (number % 3) << 41 for number in range(45))]
        assert table.find(hashes(*probe), oldest).tolist() == [known.get(one, -1) for one in probe]


@pytest.mark.parametrize("loops", LOOPS)
def test_the_table_stays_as_large_as_what_lives_asks_for(loops: Wanted) -> None:
    with looping(loops):
        table = newest()
    chance = np.random.default_rng(5)
    window, sizes = 5000, set[int]()
    for start in range(0, 200_000, 2500):
        added = chance.integers(0, 2**63, 2500).astype(np.uint64)
        assert not len(table.add(added, np.arange(start, start + 2500), max(0, start - window)))
        assert table.find(added, max(0, start - window)).tolist() == list(range(start, start + 2500))
        if start > 2 * window:
            sizes.add(table.slots)
    assert sizes == {16_384}
