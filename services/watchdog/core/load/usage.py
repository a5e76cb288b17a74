"""What every machine, process and topic is at: levels, trends and bursts by what they are about."""

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from lepton.contracts import names
from services.watchdog.core.inputs import Failures, Figures
from services.watchdog.core.load.bursts import Burst
from services.watchdog.core.load.expiring import Expiring
from services.watchdog.core.load.sustained import CLEAR_PART, Sustained
from services.watchdog.core.load.trend import Trend
from services.watchdog.core.symptom import (
    CPU,
    CRASH_LOOP,
    DEAD_LETTERS,
    DISK,
    FAILURES,
    FILES,
    GPU,
    LAG,
    LEAK,
    LOAD_AHEAD,
    MEMORY,
    QUEUE,
    Symptom,
)
from services.watchdog.core.thresholds.limits import Limits

HOST_LEVELS: Final = {names.HOST_CPU_SHARE: CPU, names.HOST_MEMORY_SHARE: MEMORY, names.HOST_DISK_SHARE: DISK,
                      names.HOST_GPU_MEMORY_SHARE: GPU}

REFUSED: Final = frozenset({"refused_record", "dead_letter_limit"})
"""Kinds of failures that are dead letters; the others are faults of a process."""

STALE_S: Final = 30.0
"""What was not said again for so long is forgotten: its process is gone, or does no such work any more."""
LOOK_EVERY_S: Final = 5.0
DISK_STEP_S: Final = 60.0
LEAK_STEP_S: Final = 10.0
LOAD_STEP_S: Final = 2.0
LOAD_POINTS: Final = 30
LEAK_LEVEL: Final = 0.4
"""A process that rises is left alone while it has less than this of its memory."""
LOADS: Final = frozenset({names.CONSUMER_LAG, names.WAITING_ROWS})
BUSY_PART: Final = 0.1
"""From this part of its limit on, what waits is work, and may be about to be too much."""

MOST_DEATHS: Final = 100
"""More of a process are not kept: how many they were is told, and when the first of them was."""

Key = tuple[str, str]


@dataclass(slots=True)
class Gauge:
    """One figure of one thing: its level, and its trend where one is asked for."""

    level: Sustained
    trend: Trend | None = None
    ahead_s: float = 0.0
    """It also stands when it will be at its limit within this time, at the slope it rises by."""
    least: float = 0.0
    """Below this level no slope counts."""
    boot_id: str = ""
    foreseen: bool = False
    soon_s: float = 0.0
    """`soon` when it will be at its limit within this time, from BUSY_PART of it on."""
    soon: bool = False
    service: str = ""

    def see(self, value: float, figures: Figures, now: float) -> bool:
        """Whether it is worth a look at the next ticks."""
        if self.trend is not None:
            if figures.boot_id != self.boot_id and figures.boot_id:
                self.trend.clear()
                self.foreseen = self.soon = False
            if self.trend.see(value, now):
                # Once foreseen it stands until it rises no more: a slope that swings is one fault, not many.
                self.foreseen = self.trend.rising and value >= self.least and (
                    self.foreseen or self.trend.reaches_in_s(self.level.limit) < self.ahead_s)
                self.soon = value >= self.level.limit * BUSY_PART and self.trend.rising and (
                    self.soon or self.trend.goes_on_to(self.level.limit) < self.soon_s)
        self.boot_id, self.service = figures.boot_id, figures.service
        self.level.see(value, now)
        return self.level.standing or self.foreseen or value >= self.level.limit * (
            BUSY_PART if self.soon_s else CLEAR_PART)


@dataclass(slots=True)
class Usage:
    """Everything the processes said of their load; folded from inputs, asked once a tick."""

    limits: Limits
    _gauges: dict[Key, Gauge] = field(default_factory=dict)
    _hot: set[Key] = field(default_factory=set)
    """The gauges that stand or may soon: a tick looks at no other."""
    _bursts: dict[Key, Burst] = field(default_factory=dict)
    _died: dict[str, deque[float]] = field(default_factory=dict)
    """By instance, when its lives ended of which a crash loop is made."""
    _expiring: Expiring = field(default_factory=Expiring)
    _deaf_at: float = 0.0
    _looked_at: float = 0.0

    def figures(self, one: Figures, now: float) -> None:
        for name, about, value in one.readings:
            if name == names.CERTIFICATE_DAYS:
                self._expiring.see(about, one.instance, value, now)
                continue
            key = (name, f"{one.instance}/{about}" if name == names.CONSUMER_LAG else about or one.instance)
            gauge = self._gauges.get(key)
            if gauge is None:
                if name not in _GAUGES:
                    continue
                gauge = self._gauges[key] = _GAUGES[name](self.limits)
            # A machine goes on when a process on it begins anew.
            if gauge.see(value, one if not about else _of_no_boot(one), now):
                self._hot.add(key)
            else:
                self._hot.discard(key)

    def failures(self, one: Failures, now: float) -> None:
        for kind, count, last in one.kinds:
            refused = kind in REFUSED
            limit = self.limits.dead_letters if refused else self.limits.failures
            self._burst((DEAD_LETTERS if refused else FAILURES, one.instance), limit, self.limits.failures_s).add(
                count, now, f"{kind}: {last}")

    def crashed(self, instance: str, now: float) -> None:
        """A life of it ended without a goodbye."""
        self._burst((CRASH_LOOP, instance), self.limits.crashes, self.limits.crashes_s).add(1, now)
        self._died.setdefault(instance, deque(maxlen=MOST_DEATHS)).append(now)

    def look(self, now: float, hearing: bool) -> None:
        """Forget what was not said again; while the bus does not carry, nothing is."""
        if not hearing:
            self._deaf_at = now
        if now - self._deaf_at < STALE_S or now - self._looked_at < LOOK_EVERY_S:
            return
        self._looked_at = now
        for key in [key for key, gauge in self._gauges.items() if now - gauge.level.seen_at > STALE_S]:
            del self._gauges[key]
            self._hot.discard(key)
        self._expiring.forget(now - STALE_S)
        for key in [key for key, burst in self._bursts.items() if not burst.look(now) and not burst.count]:
            del self._bursts[key]
            if key[0] == CRASH_LOOP:
                del self._died[key[1]]

    def symptoms(self, now: float) -> Iterator[Symptom]:
        for name, about in sorted(self._hot):
            gauge = self._gauges[(name, about)]
            found = _judge(name, about, gauge, now) or _ahead(about, gauge)
            if found is not None:
                yield replace(found, began=gauge.level.above_since)
        yield from self._expiring.symptoms(self.limits.certificate_days)
        for (kind, instance), burst in sorted(self._bursts.items()):
            if burst.look(now):
                told = f", the last: {burst.last}" if burst.last else ""
                yield self._loop(instance, now) if kind == CRASH_LOOP else Symptom(
                    kind, instance, f"{burst.count} in {burst.window_s:.0f} s{told}")

    def failed(self, instance: str) -> int:
        """Failures of a process within the time they are counted for."""
        burst = self._bursts.get((FAILURES, instance))
        return burst.count if burst is not None else 0

    def busy(self) -> frozenset[str]:
        """Services in which more waits than passes by in no time."""
        return frozenset(self._gauges[key].service for key in self._hot if key[0] in LOADS)

    def _loop(self, instance: str, now: float) -> Symptom:
        died = [at for at in self._died[instance] if now - at <= self.limits.crashes_s]
        told = f"{len(died)} lives ended within {died[-1] - died[0]:.0f} s without a goodbye"
        return Symptom(CRASH_LOOP, instance, told, began=died[0])

    def _burst(self, key: Key, limit: int, window_s: float) -> Burst:
        burst = self._bursts.get(key)
        if burst is None:
            burst = self._bursts[key] = Burst(limit, window_s)
        return burst


def _of_no_boot(one: Figures) -> Figures:
    return Figures(one.instance, one.service, "", ())


def _memory(limits: Limits) -> Sustained:
    return Sustained(limits.memory, limits.memory_s)


_GAUGES: Final[Mapping[str, Callable[[Limits], Gauge]]] = {
    names.HOST_CPU_SHARE: lambda limits: Gauge(Sustained(limits.cpu, limits.cpu_s)),
    names.HOST_MEMORY_SHARE: lambda limits: Gauge(_memory(limits)),
    names.HOST_GPU_MEMORY_SHARE: lambda limits: Gauge(Sustained(limits.gpu, limits.gpu_s)),
    names.HOST_DISK_SHARE: lambda limits: Gauge(Sustained(limits.disk, limits.disk_s), Trend(DISK_STEP_S),
                                                limits.disk_ahead_s),
    names.MEMORY_SHARE: lambda limits: Gauge(_memory(limits), Trend(LEAK_STEP_S), limits.leak_ahead_s, LEAK_LEVEL),
    names.FILES_SHARE: lambda limits: Gauge(Sustained(limits.files, limits.files_s)),
    names.CONSUMER_LAG: lambda limits: Gauge(Sustained(limits.lag, limits.lag_s), Trend(LOAD_STEP_S, LOAD_POINTS),
                                             math.inf, limits.lag, soon_s=limits.load_ahead_s),
    names.WAITING_ROWS: lambda limits: Gauge(Sustained(limits.queue, limits.queue_s), Trend(LOAD_STEP_S, LOAD_POINTS),
                                             soon_s=limits.load_ahead_s),
}
"""The detector of each figure that is judged."""


def _judge(name: str, about: str, gauge: Gauge, now: float) -> Symptom | None:
    stands, value, level = gauge.level.look(now), gauge.level.value, gauge.level
    held = f"for {level.for_s:.0f} s"
    soon = ""
    if gauge.foreseen and gauge.trend is not None:
        soon = f"it rises to {level.limit:.0%} in {gauge.trend.reaches_in_s(level.limit) / 60:.0f} minutes"
    if name in HOST_LEVELS and (stands or gauge.foreseen):
        return Symptom(HOST_LEVELS[name], about, f"{value:.0%} of it in use {held if stands else f'and {soon}'}")
    if name == names.MEMORY_SHARE and (stands or gauge.foreseen):
        return Symptom(LEAK, about, f"it has {value:.0%} of its memory {held if stands else f'and {soon}'}",
                       boot_id=gauge.boot_id)
    if name == names.FILES_SHARE and stands:
        return Symptom(FILES, about, f"{value:.0%} of its file handles are open {held}", boot_id=gauge.boot_id)
    if name == names.WAITING_ROWS and stands:
        return Symptom(QUEUE, about, f"{level.limit:.0f} rows and more wait {held}, {value:.0f} now",
                       service=gauge.service)
    if name == names.CONSUMER_LAG and stands and gauge.foreseen and gauge.trend is not None:
        return Symptom(LAG, about, f"{value:.0f} records wait, {gauge.trend.per_s:+.0f} a second",
                       service=gauge.service)
    return None


def _ahead(about: str, gauge: Gauge) -> Symptom | None:
    """Load that is not yet at its limit, and will be soon."""
    if not gauge.soon or gauge.trend is None:
        return None
    value, limit = gauge.level.value, gauge.level.limit
    return Symptom(LOAD_AHEAD, about, f"{value:.0f} wait, {gauge.trend.per_s:+.1f} a second, "
                   f"{limit:.0f} in {gauge.trend.goes_on_to(limit):.0f} s", service=gauge.service)
