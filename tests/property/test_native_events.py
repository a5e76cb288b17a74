"""Whatever the bytes are, the native loops and Python read the same of them: rows, refusals and their words."""

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton.bus.records import Headers, Record
from lepton.clock import SystemClock
from lepton.contracts.pipeline import Pipeline, parse
from services.ingest.core.arrow.reader import Reader
from services.ingest.core.quality import Validator
from services.ingest.core.quarantine import Quarantine
from services.ingest.core.reading.lot import Lot
from services.ingest.flow.accepting import Accepting
from services.ingest.flow.spec import Spec
from tests.bench.ingest.events import bodies
from tests.bench.ingest.events import spec as bench
from tests.fuzz.seeds import TRAPS
from tests.harness.loops import LOOPS, looping

SPEC = """\
apiVersion: lepton/v1
kind: Pipeline
metadata: {name: plain}
events:
  id: id
  entity: machine
  time: at
  partitions: 1
  fields:
    machine: {type: category, categories: [m, "m\u00fc", "m\\x7f"]}
    amount: {type: float, range: [0, 1000]}
    any: {type: float}
    clipped: {type: float, range: [-1, 1], out_of_range: clip}
    hot: {type: float, unit: degC, accept_units: [degF]}
    items: {type: int, range: [-5, 5.5]}
    whole: {type: int}
    emptied: {type: int, range: [0, 9], out_of_range: "null"}
    member: {type: bool}
    country: {type: category, categories: [us, "d\u00e9"]}
    state: {type: category, categories: ["on"], normalise: [trim, lower]}
    note: {type: text}
    made: {type: timestamp, input: false}
    need: {type: float, required: true}
  label: {field: bought, type: int, arrives: with_event}
"""
EVENT: dict[str, Any] = {"id": "1", "machine": "m", "owner": "o", "at": "2026-06-01T12:00:00Z", "need": 1.5}
MEMBERS = ("id", "machine", "owner", "at", "amount", "any", "clipped", "hot", "items", "whole", "emptied", "member",
           "country", "state", "note", "made", "need", "bought", "other", "\u00fc")
# Everything a member may be, or is taken for, as it stands in JSON.
RAW = (
    "null", "true", "false", "0", "-0", "-0.0", "1", "-1", "5", "5.0", "1.5", "1e3", "1E-3", "1e400", "1e-400",
    "-1.5e+2", "01", "1.", ".5", "+1", "1e", "--1", "0.1", "9007199254740993", "9007199254740993.0",
    "123456789012345678", "1234567890123456789", "9223372036854775807", "9223372036854775808", "-9223372036854775808",
    "99999999999999999999999", "0.30000000000000004", "1.7976931348623157e308", "1.7976931348623159e308", "4.9e-324",
    "2.2250738585072011e-308", "123456789.123456789e-5", "1780000000", "1780000000.5", "1780000000000", "99999999999",
    "100000000000", "253402300800", "-62135596801", "1e11", "1780000000.1234565", '""', '"m"', '"m\u00fc"',
    '"d\u00e9"', '"us"', '" ON "', '"on"', '"\\u006d"', '"\\ud83d\\ude00"', '"\\ud83d"', '"\\n"', '"\\u0000"',
    '"\x7f"', '"\\q"', '"a\\"b\\\\"', '"tab\there"', '"' + "x" * 256 + '"', '"' + "x" * 257 + '"',
    '"' + "\u00fc" * 200 + '"', '"' + "\u00fc" * 257 + '"', '"open', "[]", "{}", "[1,2]", '[1,]', '{"a":1}',
    '{"a":{"b":[null,"c\\u00e9",-1e5]}}', '{"a":1,}', '{"value":50,"unit":"degF"}', '{"value":50,"unit":"x"}',
    "[" * 30 + "]" * 30, '"2026-06-01T12:00:00Z"', '"2026-06-01T12:00:00"', '"2026-06-01T12:00:00.123456Z"',
    '"2026-06-01T12:00:00.1234567Z"', '"2026-06-01 12:00:00Z"', '"2026-06-01t12:00:00z"',
    '"2026-06-01T12:00:00+02:00"', '"2026-06-01T12:00:00-00:00"', '"2026-06-01T12:00:00.5-23:59"',
    '"2024-02-29T23:59:59Z"', '"2026-02-29T00:00:00Z"', '"2026-06-31T00:00:00Z"', '"2026-06-01T24:00:00Z"',
    '"2026-06-01T12:00:60Z"', '"0001-06-01T12:00:00Z"', '"0002-01-01T00:00:00+23:59"',
    '"9998-12-31T23:59:59.999999-23:59"', '"9999-01-01T00:00:00Z"', '"1900-02-28T01:02:03.000001Z"',
    '"1600-02-29T00:00:00Z"', '"2026-06-01T12:00:00+0200"', '"2026-06-01T12:00Z"', '"2026-6-1T12:00:00Z"', "nul",
    "tru", "NaN", "Infinity", "-Infinity")
SPACES = ("", "", "", " ", "\n\t", "\r ")
HEADERS: tuple[Headers, ...] = ((("ce_id", b"h"),), (("ce_time", b"2026-01-01T00:00:00Z"),),
                                (("content-type", b"text/plain"),))
EVENTS = 250
"""A batch: most of it must be good for much to be compared."""


def written(chance: random.Random) -> bytes | None:
    """A good event with some members left out, written otherwise, twice, in another order, or broken off."""
    without = chance.choice((*[None] * 30, *EVENT))
    members = [(name, json.dumps(value)) for name, value in EVENT.items() if name != without]
    members += [(chance.choice(MEMBERS), chance.choice(RAW)) for _ in range(chance.choice((0, 1, 1, 1, 2, 4)))]
    if chance.random() < 0.9:
        members = list(dict(members).items())
    chance.shuffle(members)
    space = chance.choice(SPACES)
    inside = f",{space}".join(f'"{name}"{space}:{space}{raw}' for name, raw in members)
    text = f"{space}{{{inside}{space}}}{chance.choice(SPACES)}".encode()
    at = chance.randrange(len(text) + 1)
    match chance.randrange(60):
        case 0:
            return text[:at]
        case 1:
            return text + chance.choice([b"x", b"{}", b"\x00", b","])
        case 2:
            return text[:at] + chance.randbytes(1) + text[at:]
        case 3:
            return text[:at] + chance.randbytes(1) + text[at + 1:]
        case 4:
            return chance.choice((*TRAPS, None))
    return text


def told(lot: Lot) -> dict[str, Any]:
    return {"ids": lot.ids, "entities": lot.entities, "times": lot.times.tolist(), "positions": lot.positions.tolist(),
            "sources": lot.sources, "values": lot.values, "repairs": lot.repairs, "labels": lot.labels,
            "traces": lot.traces, "rejections": sorted(lot.rejections, key=lambda one: one.position)}


def reader_of(spec: Pipeline, wanted: Any) -> Reader:
    with looping(wanted):
        return Reader(spec, Validator(spec), 1)


@pytest.mark.parametrize("text", [
    SPEC, SPEC.replace("entity: machine", "entity: owner"), SPEC.replace("entity: machine", "entity: id")])
def test_any_events_are_read_the_same_by_both(text: str) -> None:
    spec = parse(text)
    python, other = (reader_of(spec, wanted) for wanted in ("python", LOOPS[-1]))

    @settings(max_examples=25, deadline=None)
    @given(st.integers(0, 2**32), st.lists(st.binary(max_size=40), max_size=5), st.sampled_from([0.0, 0.0, 0.1]),
           st.sampled_from([frozenset(), frozenset(), frozenset({"unknown"})]))
    def same(seed: int, strange: list[bytes], with_headers: float, quarantined: frozenset[str]) -> None:
        chance = random.Random(seed)
        values = [*(written(chance) for _ in range(EVENTS)), *strange]
        records = [Record("t", 0, place, None, value, chance.choice(HEADERS) if chance.random() < with_headers else (),
                          1_780_000_000_123) for place, value in enumerate(values)]
        by_python, by_other = (told(reader.read(records, 0, quarantined)) for reader in (python, other))
        assert by_other == by_python
        assert quarantined or with_headers or len(by_python["positions"]) > EVENTS / 5

    same()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20),
       st.lists(st.integers(-10**19, 10**19), min_size=1, max_size=20))
def test_numbers_are_the_same_to_the_last_bit(reals: list[float], wholes: list[int]) -> None:
    spec = parse(SPEC)
    numbers = [repr(real) for real in reals] + [f"{real:.12e}" for real in reals] + [str(whole) for whole in wholes]
    begun = json.dumps(EVENT)[:-1]
    events = [f'{begun}, "any": {number}, "whole": {number}, "made": {number}}}' for number in numbers]
    events += [f'{begun}, "any": {number}}}' for number in numbers]
    records = [Record("t", 0, place, None, event.encode(), (), 0) for place, event in enumerate(events)]
    by_python, by_other = (told(reader_of(spec, wanted).read(records, 0)) for wanted in ("python", LOOPS[-1]))
    assert by_other == by_python


def test_what_is_plainly_good_is_read_without_python() -> None:
    spec = parse(SPEC)
    reader = reader_of(spec, LOOPS[-1])
    plain = [json.dumps(EVENT | {"note": "\u00fc\n\"", "items": 3, "at": at, "other": [1, {"a": None}]}).encode()
             for at in ("2026-06-01T12:00:00Z", 1_780_000_000, None)]
    records = [Record("t", 0, place, None, value, (), 5) for place, value in enumerate(plain)]
    lot = reader.read(records, 0)
    assert (len(lot), lot.rejections, lot.times.tolist()[-1]) == (3, [], 5000)
    if reader._plain is not None:
        assert reader._plain.read(records, bytes(3))[1].tolist() == []


async def test_what_becomes_of_a_batch_is_the_same_to_the_last_byte() -> None:
    events = [Record("t", 0, place, None, body, (), 1_790_000_000_000) for place, (_, body) in enumerate(bodies(2500))]
    found = []
    for loops in (LOOPS[0], LOOPS[-1]):
        with looping(loops):
            accepting = Accepting(Spec(bench(), 1, 1, 4), Quarantine(), lambda parent, _: parent, SystemClock())
            accepting.restore_events(0, {})
            for start in (0, 700, 600):
                # The last batch begins with events of the one before.
                results = await accepting.accept(0, events[start:start + 1200])
                accepting.keep_events(0)
                found.append((results.features, results.rejections, results.state))
    assert found[:3] == found[3:]
    assert found[0][1] and found[0][0]
