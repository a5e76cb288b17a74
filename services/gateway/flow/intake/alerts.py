"""How alerts of other monitoring systems reach the watchdog: on the telemetry topic, as durable as what is posted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from lepton.bus.producer import Producer
from lepton.clock import Clock
from lepton.contracts.pb import telemetry_pb2
from lepton.contracts.topics import Topic

RESOLVED_AFTER = timedelta(minutes=5)
"""An alert that names no end is over then, unless it is said again (Alertmanager's `resolve_timeout`)."""
STANDS_FOR = timedelta(hours=12)
"""One of a webhook, which says when it is over, may be repeated this seldom: thrice Alertmanager's four hours."""
PER_MESSAGE = 100


@dataclass(frozen=True, slots=True)
class OutsideAlert:
    """An alert as it was posted; `ends_at` None or in the future: it fires, and for `open_for` where it is None.

    `fingerprint`: what its sender knows it by; empty: its labels.
    """

    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    open_for: timedelta = RESOLVED_AFTER
    fingerprint: str = ""


class Alerts:
    """Hands alerts on in the name of this process."""

    def __init__(self, producer: Producer, instance: str, boot_id: str, clock: Clock) -> None:
        self._producer = producer
        self._instance = instance
        self._boot_id = boot_id
        self._clock = clock
        self._sequence = 0

    async def take(self, alerts: Sequence[OutsideAlert]) -> None:
        """Return once all are durable. Raises Unavailable; posting them again is harmless."""
        for start in range(0, len(alerts), PER_MESSAGE):
            self._sequence += 1
            now = self._clock.now()
            message = telemetry_pb2.Telemetry(
                instance=self._instance, service="gateway", boot_id=self._boot_id, sequence=self._sequence,
                state=telemetry_pb2.INSTANCE_STATE_READY,
                alerts=[_message(one, now) for one in alerts[start:start + PER_MESSAGE]])
            message.at.FromDatetime(now)
            await self._producer.send(Topic.TELEMETRY, message, key=self._instance)


def _message(one: OutsideAlert, now: datetime) -> telemetry_pb2.OutsideAlert:
    told = telemetry_pb2.OutsideAlert(fingerprint=one.fingerprint or _fingerprint(one.labels), labels=dict(one.labels),
                                      annotations=dict(one.annotations))
    told.starts_at.FromDatetime((one.starts_at or now).astimezone(UTC))
    told.ends_at.FromDatetime((one.ends_at or now + one.open_for).astimezone(UTC))
    return told


def _fingerprint(labels: Mapping[str, str]) -> str:
    """The same for the same labels, in whatever order."""
    return sha256("\0".join(f"{name}\1{labels[name]}" for name in sorted(labels)).encode()).hexdigest()[:16]
