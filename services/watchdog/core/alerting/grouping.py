"""When people are told: alerts of one group in one message, each step once, again while it lasts, never too many.

A pure function of alerts and the time they came at; addresses are told independently of each other.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from services.watchdog.core.alerting.alerts import Alert

MAX_WAITING: Final = 200
"""Alerts that wait for one address; beyond these the oldest are only counted."""
RATE_PER_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Timing:
    """`group_s`: how long an alert waits for others of its group. `repeat_s`: after so long what lasts is told again
    (0: never). `per_minute`: messages that an address gets at most; what is more waits and is told together."""

    group_s: float = 5.0
    repeat_s: float = 4 * 3600.0
    per_minute: int = 20


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent to an address at once. `left_out`: alerts that were too many to be kept."""

    address: str
    group: str
    alerts: tuple[Alert, ...]
    left_out: int = 0


@dataclass(slots=True)
class _Open:
    """An incident that was told of: its steps so far, the latest alert, who was told and when."""

    steps: set[str]
    alert: Alert
    addresses: tuple[str, ...]
    told_at: float


@dataclass(slots=True)
class _Group:
    since: float
    alerts: dict[str, Alert] = field(default_factory=dict)


class Grouping:
    """`add` what is to be told, then ask what is `due`."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._open: dict[str, _Open] = {}
        self._waiting: dict[str, dict[str, _Group]] = {}
        self._sent: dict[str, deque[float]] = {}
        self._left_out: dict[str, int] = {}

    def add(self, alert: Alert, addresses: tuple[str, ...], now: float) -> bool:
        """Have it told to `addresses`; False when this step of the incident was told already.

        Whoever was told that it is there is told of its end, whatever the routes say by then.
        """
        known = self._open.get(alert.incident_id)
        if known is not None and alert.step in known.steps:
            return False
        steps: set[str] = known.steps if known is not None else set()
        before = known.addresses if known is not None else ()
        told = tuple(dict.fromkeys((*before, *addresses)))
        if alert.firing:
            self._open[alert.incident_id] = _Open({*steps, alert.step}, alert, told, now)
        else:
            self._open.pop(alert.incident_id, None)
        for address in addresses if alert.firing else told:
            self._wait(address, alert, now)
        return True

    def forget(self) -> None:
        """Another tells from now on; what waits is still told."""
        self._open = {}

    def stand(self, alerts: Iterable[tuple[Alert, tuple[str, ...]]], now: float) -> None:
        """Go on with incidents that are open and told of, by another watchdog or this one before its restart."""
        for one, addresses in alerts:
            self._open.setdefault(one.incident_id, _Open({one.step}, one, addresses, now))

    def due(self, now: float) -> list[Message]:
        """What is to be sent now; it counts as sent."""
        self._repeat(now)
        found = []
        for address, groups in list(self._waiting.items()):
            for name, group in list(groups.items()):
                if now - group.since >= self._timing.group_s and self._may(address, now):
                    del groups[name]
                    self._sent.setdefault(address, deque()).append(now)
                    found.append(Message(address, name, tuple(group.alerts.values()), self._left_out.pop(address, 0)))
            if not groups:
                del self._waiting[address]
        return found

    def _wait(self, address: str, alert: Alert, now: float) -> None:
        groups = self._waiting.setdefault(address, {})
        waiting = groups.setdefault(alert.group, _Group(now)).alerts
        # The latest word on an incident comes last, and is the only one.
        waiting.pop(alert.incident_id, None)
        waiting[alert.incident_id] = alert
        if sum(len(group.alerts) for group in groups.values()) > MAX_WAITING:
            longest = max(groups.values(), key=lambda group: len(group.alerts)).alerts
            del longest[next(iter(longest))]
            self._left_out[address] = self._left_out.get(address, 0) + 1

    def _repeat(self, now: float) -> None:
        if not self._timing.repeat_s:
            return
        for known in self._open.values():
            if now - known.told_at >= self._timing.repeat_s:
                known.told_at = now
                for address in known.addresses:
                    self._wait(address, known.alert, now)

    def _may(self, address: str, now: float) -> bool:
        sent = self._sent.get(address, deque())
        while sent and now - sent[0] >= RATE_PER_S:
            sent.popleft()
        return len(sent) < self._timing.per_minute
