"""How a day is written down and lived again: inputs and decisions as JSON, and the replay that must agree."""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from services.watchdog.core.engine import Engine
from services.watchdog.core.inputs import AnyInput, Decision, Thresholds, Tick

INPUTS, DECISIONS = "signal", "decision"

# Ticks without any input are kept back until there is something to write, or so many of them: ten seconds' worth.
MAX_QUIET = 40
# Keeps a record below the topic's limit of a megabyte.
MAX_IN_ENTRY = 500

_inputs = msgspec.json.Decoder(list[AnyInput])
_decisions = msgspec.json.Decoder(list[Decision])


class Journal:
    """Collects what the engine was given, in order. Quiet ticks are written together with the next that is not."""

    def __init__(self, thresholds: Thresholds) -> None:
        self._pending: list[AnyInput] = [thresholds]
        self._quiet = 0

    def note(self, tick: Tick, inputs: Sequence[AnyInput], decisions: Sequence[Decision]) -> list[tuple[str, str]]:
        """Entries to write now: (kind, body) pairs; none while all is quiet."""
        self._pending += [tick, *inputs]
        self._quiet += 1
        if not inputs and not decisions and self._quiet < MAX_QUIET:
            return []
        entries = [(INPUTS, msgspec.json.encode(self._pending[start:start + MAX_IN_ENTRY]).decode())
                   for start in range(0, len(self._pending), MAX_IN_ENTRY)]
        if decisions:
            entries.append((DECISIONS, msgspec.json.encode(decisions).decode()))
        self._pending, self._quiet = [], 0
        return entries


def read_inputs(body: str) -> list[AnyInput]:
    return _inputs.decode(body)


def read_decisions(body: str) -> list[Decision]:
    return _decisions.decode(body)


def replay(bodies: Iterable[str]) -> Iterator[list[Decision]]:
    """Decisions of each tick that made any, from the bodies of all entries with inputs since a start, in order."""
    engine: Engine | None = None
    tick: Tick | None = None
    came: list[AnyInput] = []
    for body in bodies:
        for one in read_inputs(body):
            if isinstance(one, Thresholds):
                engine, tick, came = Engine(one), None, []
            elif isinstance(one, Tick):
                yield from _step(engine, tick, came)
                tick, came = one, []
            else:
                came.append(one)
    yield from _step(engine, tick, came)


def _step(engine: Engine | None, tick: Tick | None, came: list[AnyInput]) -> Iterator[list[Decision]]:
    if engine is not None and tick is not None and (decisions := engine.step(tick, came)):
        yield decisions
