"""How a day is written down and lived again: inputs and decisions as JSON, and the replay that must agree."""

from collections.abc import Iterable, Iterator, Sequence

import msgspec
from msgspec.structs import replace

from services.watchdog.core.engine import Engine
from services.watchdog.core.inputs import Again, AnyInput, Beat, Decision, Thresholds, Tick

INPUTS, DECISIONS = "signal", "decision"

# Two seconds' worth: what is lost of a killed watchdog's last moments, but never a decision's inputs.
MAX_TICKS = 8
MAX_IN_ENTRY = 500
MAX_BYTES = 500_000
"""Of an entry; more only of a single input. A topic takes records of a megabyte, and summaries of rows have kilobytes
each: a watchdog that comes back to a backlog of them would end at its first entry, and again at every start."""

_inputs = msgspec.json.Decoder(list[AnyInput])
_decisions = msgspec.json.Decoder(list[Decision])


class Journal:
    """Collects what the engine was given, in order; heartbeats that say nothing new are only named."""

    def __init__(self, thresholds: Thresholds) -> None:
        self._pending: list[AnyInput] = [thresholds]
        self._ticks = 0
        self._said: dict[str, Beat] = {}

    def note(self, tick: Tick, inputs: Sequence[AnyInput], decisions: Sequence[Decision]) -> list[tuple[str, str]]:
        """Entries to write now: (kind, body) pairs; with every decision, when one is full, and after MAX_TICKS."""
        self._pending.append(tick)
        for one in inputs:
            self._add(one)
        self._ticks += 1
        # An entry that is full is written at once: then no tick writes the many before it.
        if not decisions and self._ticks < MAX_TICKS and len(self._pending) < MAX_IN_ENTRY:
            return []
        entries = [(INPUTS, body) for body in _bodies(self._pending)]
        if decisions:
            entries.append((DECISIONS, msgspec.json.encode(decisions).decode()))
        self._pending, self._ticks = [], 0
        return entries

    def _add(self, one: AnyInput) -> None:
        if not isinstance(one, Beat):
            self._pending.append(one)
            return
        known = self._said.get(one.instance)
        self._said[one.instance] = replace(one, lag_s=None)
        if known != self._said[one.instance]:
            self._pending.append(one)
            return
        last = self._pending[-1]
        if isinstance(last, Again) and last.lag_s is None and one.lag_s is None:
            self._pending[-1] = Again((*last.instances, one.instance))
        else:
            self._pending.append(Again((one.instance,), one.lag_s))


def _bodies(inputs: Iterable[AnyInput]) -> Iterator[str]:
    """JSON lists of the inputs in their order, each of MAX_IN_ENTRY inputs and MAX_BYTES at most."""
    part: list[bytes] = []
    size = 0
    for text in map(msgspec.json.encode, inputs):
        if part and (len(part) == MAX_IN_ENTRY or size + len(text) + 1 > MAX_BYTES):
            yield f"[{b','.join(part).decode()}]"
            part, size = [], 0
        part.append(text)
        size += len(text) + 1
    yield f"[{b','.join(part).decode()}]"


def read_inputs(body: str) -> list[AnyInput]:
    return _inputs.decode(body)


def read_decisions(body: str) -> list[Decision]:
    return _decisions.decode(body)


def replay(bodies: Iterable[str]) -> Iterator[list[Decision]]:
    """Decisions of each tick that made any, from the bodies of all entries with inputs since a start, in order."""
    engine: Engine | None = None
    tick: Tick | None = None
    came: list[AnyInput] = []
    said: dict[str, Beat] = {}
    for one in (one for body in bodies for one in read_inputs(body)):
        match one:
            case Thresholds():
                engine, tick, came, said = Engine(one), None, [], {}
            case Tick():
                yield from _step(engine, tick, came)
                tick, came = one, []
            case Again():
                came += [replace(said[name], lag_s=one.lag_s) for name in one.instances]
            case _:
                if isinstance(one, Beat):
                    said[one.instance] = one
                came.append(one)
    yield from _step(engine, tick, came)


def _step(engine: Engine | None, tick: Tick | None, came: list[AnyInput]) -> Iterator[list[Decision]]:
    if engine is not None and tick is not None and (decisions := engine.step(tick, came)):
        yield decisions
