"""How often this process called each other part, how often in vain and how long it took, until a heartbeat tells it.

Every call is counted, whatever share of traces is sampled: a sum for each callee costs a heartbeat some fifty bytes now
and then, and a call two additions.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import TypeAlias

from lepton.clock import Clock
from lepton.contracts.pb import telemetry_pb2
from lepton.errors import Unavailable

Way: TypeAlias = "telemetry_pb2.CallWay.ValueType"

# Callees that go on as before are told again after this time.
TELL_EVERY_S = 30.0
# So that heartbeats stay small: who is left over is told by the next one.
MAX_TOLD = 20
# Far more than the topics of a hundred pipelines; a process that calls more has a bug worth losing detail over.
MAX_CALLEES = 2000

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Sum:
    count: int = 0
    failed: int = 0
    seconds: float = 0.0
    told_at: float = float("-inf")


class Calls:
    """Collects between heartbeats; used on the event loop only."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sums: dict[tuple[Way, str], _Sum] = {}
        self._full = False

    def add(self, way: Way, callee: str, seconds: float = 0.0, *, failed: bool = False) -> None:
        one = self._sums.get((way, callee))
        if one is None:
            if len(self._sums) >= MAX_CALLEES and not self._room():
                return
            one = self._sums[(way, callee)] = _Sum()
        one.count += 1
        one.failed += failed
        one.seconds += seconds

    def now(self) -> float:
        """Monotonic seconds, for those that time their calls themselves."""
        return self._clock.monotonic()

    def timed(self, way: Way, callee: str) -> "Timed":
        """Use: `with calls.timed(way, callee):` around one call; Unavailable counts as no answer."""
        return Timed(self, self._clock, way, callee)

    def take(self) -> list[telemetry_pb2.Calls]:
        """What is to be told now: new callees, those that failed, and who was told of longest ago."""
        now = self._clock.monotonic()
        due = [(one.told_at, way, callee) for (way, callee), one in self._sums.items()
               if one.count and (one.failed or now - one.told_at >= TELL_EVERY_S)]
        told = []
        for _, way, callee in sorted(due)[:MAX_TOLD]:
            one = self._sums[(way, callee)]
            told.append(telemetry_pb2.Calls(way=way, callee=callee, count=one.count, failed=one.failed,
                                            seconds=one.seconds))
            self._sums[(way, callee)] = _Sum(told_at=now)
        return told

    def put_back(self, unsent: Iterable[telemetry_pb2.Calls]) -> None:
        """Of a heartbeat that could not be sent: the next one tells it."""
        for told in unsent:
            one = self._sums.setdefault((told.way, told.callee), _Sum())
            one.count += told.count
            one.failed += told.failed
            one.seconds += told.seconds
            one.told_at = float("-inf")

    def _room(self) -> bool:
        """Forget whom nothing is waiting to be told of; whether that made room."""
        self._sums = {key: one for key, one in self._sums.items() if one.count}
        if len(self._sums) >= MAX_CALLEES and not self._full:
            self._full = True
            log.warning("more than %d parts are called: calls of further ones are not told", MAX_CALLEES)
        return len(self._sums) < MAX_CALLEES


class Timed:
    """One call under way."""

    __slots__ = ("_began", "_callee", "_calls", "_clock", "_way")

    def __init__(self, calls: Calls, clock: Clock, way: Way, callee: str) -> None:
        self._calls, self._clock, self._way, self._callee = calls, clock, way, callee
        self._began = 0.0

    def __enter__(self) -> None:
        self._began = self._clock.monotonic()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 where: TracebackType | None) -> None:
        self._calls.add(self._way, self._callee, self._clock.monotonic() - self._began,
                        failed=isinstance(error, Unavailable))
