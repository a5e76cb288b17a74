"""What a process says of itself on the bus: heartbeats with what it measured since the last, and its address."""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable

from lepton.clock import Clock
from lepton.contracts.pb import telemetry_pb2
from lepton.errors import Busy, Unavailable
from lepton.runtime.calls.sums import Calls
from lepton.runtime.health import Health
from lepton.runtime.logs import Patterns
from lepton.runtime.loops import pause
from lepton.runtime.resources.expiry import Expiry
from lepton.runtime.resources.gpus import Gpus
from lepton.runtime.resources.reading import Resources
from lepton.runtime.settings import LeptonSettings

ANNOUNCE_EVERY_S = 2.0
# A process that measures or fails in more ways than this between two heartbeats has a bug worth losing detail over.
MAX_MEASUREMENTS = 2000
MAX_ERRORS = 100

# Those that run models; the others need not open the driver to say what these say.
ON_GPUS = frozenset({"predictor", "trainer"})

SendTelemetry = Callable[[telemetry_pb2.Telemetry], Awaitable[None]]
SendInstance = Callable[[telemetry_pb2.Instance | None], Awaitable[None]]
Describe = Callable[[telemetry_pb2.Instance], None]
Attributes = tuple[tuple[str, str], ...]

log = logging.getLogger(__name__)


class Pulse:
    """Collects between heartbeats; what could not be sent stays for the next one."""

    def __init__(self, service: str, settings: LeptonSettings, clock: Clock, health: Health) -> None:
        self._service = service
        self._settings = settings
        self._clock = clock
        self._health = health
        self.boot_id = secrets.token_hex(8)
        self._sequence = 0
        self._measurements: dict[tuple[str, Attributes], float] = {}
        self._counts: dict[tuple[str, Attributes], float] = {}
        self._sent_counts: frozenset[tuple[str, Attributes]] = frozenset()
        self._errors: dict[tuple[str, str], telemetry_pb2.ErrorReport] = {}
        self._resources = Resources(settings.state_dir)
        self._gpus = Gpus() if service in ON_GPUS else None
        self._expiry = Expiry(settings.trust_dir, settings.kafka_ca_file)
        self.calls = Calls(clock)
        self.lines = Patterns()
        """A log handler: what it counts goes into the next heartbeat."""

    def measure(self, name: str, value: float, attributes: dict[str, str]) -> None:
        """Put a value into the next heartbeat; the last one of a name and its attributes counts."""
        key = (name, tuple(sorted(attributes.items())))
        if key in self._measurements or len(self._measurements) < MAX_MEASUREMENTS:
            self._measurements[key] = value

    def count(self, name: str, amount: float, attributes: dict[str, str]) -> None:
        """Add to a value of the next heartbeat; one that could not be sent is added to the one after."""
        key = (name, tuple(sorted(attributes.items())))
        if key in self._counts or len(self._counts) < MAX_MEASUREMENTS:
            self._counts[key] = self._counts.get(key, 0.0) + amount

    def error(self, kind: str, message: str, place: str) -> None:
        report = self._errors.get((kind, place))
        if report is None:
            if len(self._errors) >= MAX_ERRORS:
                return
            report = self._errors[(kind, place)] = telemetry_pb2.ErrorReport(kind=kind, place=place)
        report.message = message
        report.count += 1

    async def beat_until(self, stop: asyncio.Event, send: SendTelemetry) -> None:
        """Send a heartbeat each interval; the last one, after `stop`, says STOPPED."""
        stopped = False
        while not stopped:
            stopped = await pause(stop, self._settings.heartbeat_interval_s, self._clock)
            message = self._next()
            if stopped:
                message.state, message.drained = telemetry_pb2.INSTANCE_STATE_STOPPED, False
            try:
                await send(message)
            except (Unavailable, Busy) as error:
                self._keep(message)
                log.warning("heartbeat not sent: %s", error)

    async def announce_until(self, stop: asyncio.Event, send: SendInstance, describe: Describe,
                             admin_address: Callable[[], str]) -> None:
        """Send the Instance, filled in by `describe`, on each change and every two seconds; a tombstone at the end."""
        said: bytes | None = None
        said_at = 0.0
        while True:
            instance = telemetry_pb2.Instance(
                instance=self._settings.instance, service=self._service, boot_id=self.boot_id,
                state=self._health.state, drained=self._health.drained, admin_address=admin_address(),
            )
            describe(instance)
            content = _content(instance)
            now = self._clock.monotonic()
            if content != said or now - said_at >= ANNOUNCE_EVERY_S:
                instance.at.FromDatetime(self._clock.now())
                if await self._announce(send, instance):
                    said, said_at = content, now
            if await pause(stop, min(self._settings.heartbeat_interval_s, ANNOUNCE_EVERY_S), self._clock):
                await self._announce(send, None)
                return

    async def _announce(self, send: SendInstance, instance: telemetry_pb2.Instance | None) -> bool:
        try:
            await send(instance)
        except (Unavailable, Busy) as error:
            log.warning("instance not announced: %s", error)
            return False
        return True

    def _next(self) -> telemetry_pb2.Telemetry:
        self._sequence += 1
        now = self._clock.monotonic()
        used = self._gpus.read(now) if self._gpus is not None else ()
        for name, value, attributes in (*self._resources.read(now), *used, *self._expiry.read(now, self._clock.now())):
            self.measure(name, value, attributes)
        message = telemetry_pb2.Telemetry(
            instance=self._settings.instance, service=self._service, pid=self._resources.pid,
            sequence=self._sequence, boot_id=self.boot_id, state=self._health.state, drained=self._health.drained,
            failing_checks=self._health.failing(), errors=self._errors.values(), patterns=self.lines.take(),
            calls=self.calls.take(),
            measurements=[telemetry_pb2.Measurement(name=name, value=value, attributes=dict(attributes))
                          for (name, attributes), value in (self._measurements | self._counts).items()],
        )
        message.at.FromDatetime(self._clock.now())
        self._sent_counts = frozenset(self._counts)
        self._measurements, self._counts, self._errors = {}, {}, {}
        return message

    def _keep(self, unsent: telemetry_pb2.Telemetry) -> None:
        self.lines.put_back(unsent.patterns)
        self.calls.put_back(unsent.calls)
        for one in unsent.measurements:
            key = (one.name, tuple(sorted(one.attributes.items())))
            if key in self._sent_counts:
                self._counts[key] = self._counts.get(key, 0.0) + one.value
            else:
                self._measurements.setdefault(key, one.value)
        for report in unsent.errors:
            newer = self._errors.setdefault((report.kind, report.place), report)
            if newer is not report:
                newer.count += report.count


def _content(instance: telemetry_pb2.Instance) -> bytes:
    """What of an Instance is worth telling at once: everything but its load and what it counted."""
    copy = telemetry_pb2.Instance()
    copy.CopyFrom(instance)
    copy.ClearField("load")
    for model in copy.models:
        model.ClearField("arms")
    return copy.SerializeToString(deterministic=True)
