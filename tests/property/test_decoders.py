"""Arbitrary bytes give a row, a dead letter or an outcome: by Hypothesis, and by all that `make fuzz` has found."""

import json
import resource
import subprocess
import sys
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton.bus.records import partition_for
from lepton.contracts.arrow import stream
from tests.fuzz import seeds as made
from tests.fuzz.targets import ARROW, TARGETS, judged

# An entity of partition 0 of 3.
HERE = next(name for name in map(str, range(20)) if partition_for(name.encode(), 3) == 0)
SEEDS = {target: list(made.seeds(target)) for target in TARGETS}


@st.composite
def damaged(draw: st.DrawFn, target: str) -> bytes:
    """Good input with some bytes changed, cut out, doubled, or joined with other good input."""
    data = bytearray(draw(st.sampled_from(SEEDS[target])))[:20_000]
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        match draw(st.integers(0, 3)):
            case 0:
                data[at:at + 1] = draw(st.binary(min_size=1, max_size=8))
            case 1:
                del data[at:at + draw(st.integers(1, 64))]
            case 2:
                data[at:at] = data[at:at + draw(st.integers(1, 64))]
            case _:
                data[at:] = draw(st.sampled_from(SEEDS[target]))[:2_000]
    return bytes(data)


@pytest.mark.parametrize("target", TARGETS)
def test_every_seed_and_all_that_was_ever_found_is_survived(target: str) -> None:
    for data in SEEDS[target]:
        TARGETS[target](data)


@pytest.mark.parametrize("target", TARGETS)
def test_any_bytes_are_survived(target: str) -> None:
    @settings(max_examples=25, deadline=None)
    @given(st.one_of(st.binary(max_size=200), damaged(target)))
    def survives(data: bytes) -> None:
        TARGETS[target](data)

    survives()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.fixed_dictionaries({
    "need": st.floats(allow_nan=False, allow_infinity=False) | st.none(),
    "amount": st.floats(-2000, 2000) | st.none(), "items": st.integers(-20, 20) | st.none(),
    "country": st.sampled_from(["us", " DE ", "xx", None]), "note": st.text(max_size=5) | st.none(),
    "member": st.booleans() | st.none(), "steps": st.lists(st.floats(-1, 1), max_size=6) | st.none(),
    "bought": st.booleans() | st.none()}), min_size=1, max_size=12))
def test_a_stream_says_the_same_as_its_rows_one_by_one_as_json(rows: list[dict[str, Any]]) -> None:
    kinds = {"need": pa.float64(), "amount": pa.float64(), "items": pa.int64(), "country": pa.string(),
             "note": pa.string(), "member": pa.bool_(), "steps": pa.list_(pa.float64()), "bought": pa.bool_()}
    table = pa.table({"id": [str(number) for number in range(len(rows))], "entity": [HERE] * len(rows)} | {
        name: pa.array([row[name] for row in rows], kind) for name, kind in kinds.items()})
    whole = judged(stream.write_table(table), ARROW)
    accepted = {row["_event_id"]: row for row in whole.batch.to_pylist()} if whole.batch is not None else {}
    refused = {rejection.row: {(rejection.code, rejection.field)} for rejection in whole.rejections}
    for number, row in enumerate(rows):
        body = {name: value for name, value in row.items() if value is not None}
        alone = judged(json.dumps({"id": str(number), "entity": HERE} | body).encode(), ())
        if alone.batch is not None:
            assert alone.batch.to_pylist() == [accepted.pop(str(number))]
        else:
            # Of several things wrong with a row, either way of reading names the first that it meets.
            assert refused.pop(number) and alone.rejections
    assert accepted == refused == {}


@pytest.mark.parametrize("what", ["zstd zeros", "one text many times", "more rows than there are", "nulls"])
def test_a_bomb_is_refused_without_being_unpacked(what: str) -> None:
    """In a process that may take little more memory than it has when it starts."""
    ended = subprocess.run([sys.executable, "-m", "tests.property.test_decoders", what], capture_output=True, text=True)
    assert ended.stdout.startswith("refused"), ended.stderr[-2000:]


def _bomb(what: str) -> bytes:
    match what:
        case "zstd zeros":
            return made.written(pa.table({"id": pa.array([0] * 4_000_000)}), "zstd")
        case "one text many times":
            text = pa.array(["x" * 1_000_000]).dictionary_encode()
            indexes = pa.array([0] * 60_000, pa.int32())
            column = pa.DictionaryArray.from_arrays(indexes, text.dictionary)
            return made.written(pa.table(dict.fromkeys(("id", "entity", "note", "country"), column)), None)
        case "more rows than there are":
            few = made.written(pa.table({"id": pa.nulls(500)}), None)
            return few.replace((500).to_bytes(8, "little"), (10**12).to_bytes(8, "little"))
        case _:
            return made.written(pa.table({"id": pa.nulls(50_000_000)}), None)


def _explode(what: str) -> None:
    data = _bomb(what)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    judged(made.written(made.table(), None), ARROW)
    resource.setrlimit(resource.RLIMIT_DATA, (used + 400_000_000,) * 2)
    accepted = judged(data, ARROW)
    assert accepted.batch is None
    print("refused", accepted.rejections[0].message)


if __name__ == "__main__":
    _explode(sys.argv[1])
