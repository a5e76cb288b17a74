"""How a process is drained: nobody gives it more to do, what it has ends, and it is never the last that serves.

It says that it is DRAINING where it says everything, on `lepton-instances`, in its heartbeats and at /readyz. Whether
another of its service serves is read there too, before and after: of two that are told at once, each sees the other.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC
from typing import Final

from lepton.bus.commands.arguments import seconds
from lepton.bus.commands.log import Course, Duties
from lepton.bus.records import Broker, Reader
from lepton.contracts import codec, topics
from lepton.contracts.pb import recovery_pb2, telemetry_pb2
from lepton.contracts.pb.recovery_pb2 import RecoveryCommand
from lepton.contracts.pb.telemetry_pb2 import Instance
from lepton.contracts.topics import Topic
from lepton.errors import Busy, Invalid, Refused, Unavailable
from lepton.runtime.pulse import ANNOUNCE_EVERY_S
from lepton.runtime.service import Service

TARGET: Final = "instance:"

WITHIN_S, LONGEST_WITHIN_S = 10.0, 300.0
"""Time that what is under way has to end, where the command names none."""
FOR_S, LONGEST_S = 120.0, 3_600.0
"""Time after which it serves again, the same."""
QUIET_S: Final = 1.0
"""Who chooses among processes hears within a moment that this one is none to choose: so long nothing may come."""
TOLD_S: Final = 5.0
"""What it says of itself is on the bus within this time, or the bus is away."""
SILENT_MS: Final = 3.25 * ANNOUNCE_EVERY_S * 1000
"""Who missed three announcements is not there, by the broker's clock."""
TAIL: Final = 10_000
"""Records of `lepton-instances` that are read back: more than come in that time."""
POLL_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class _Said:
    """What a process said of itself last, and when that was written."""

    instance: Instance
    at_ms: int


class Draining:
    """One process. `under_way`: requests that it is answering now."""

    def __init__(self, service: Service, broker: Broker, under_way: Callable[[], int]) -> None:
        self._health = service.health
        self._clock = service.clock
        self._service = service.name
        self.instance = service.settings.instance
        self._boot_id = service.telemetry.boot_id
        self._broker = broker
        self._under_way = under_way

    def duties(self) -> Duties:
        """What it obeys. A process that begins anew serves, whatever the one before it was told."""
        return Duties(TARGET, {recovery_pb2.RECOVERY_ACTION_DRAIN: lambda _, command, __: self._drain(command),
                               recovery_pb2.RECOVERY_ACTION_RESTORE: lambda _, __, ___: self._serve()},
                      only=self.instance, passing=True)

    async def _drain(self, command: RecoveryCommand) -> Course:
        within_s = seconds(command, "within_s", LONGEST_WITHIN_S, default=WITHIN_S)
        for_s = seconds(command, "for_s", LONGEST_S, default=FOR_S)
        left_s = for_s - (self._clock.now() - command.issued_at.ToDatetime(UTC)).total_seconds()
        # Fixed now: what follows waits for the bus.
        until = self._clock.monotonic() + left_s
        self._check_time(until, command)
        reader = self._broker.reader([topics.name(Topic.INSTANCES)], group=None, client_id=f"{self.instance}-drain")
        await reader.start()
        try:
            others = await self._read_back(reader)
            self._check(others)
            self._check_time(until, command)
            before = self._health.drained_until
            self._health.drain(until)
            try:
                await self._until_told(reader, others)
                self._check(others)
            except BaseException:
                # As it was: who is not told that it is drained, or until when, cannot count on it.
                self._health.drain(before)
                raise
        finally:
            await reader.stop()
        return self._course(self._clock.monotonic() + within_s, until)

    def _check_time(self, until: float, command: RecoveryCommand) -> None:
        if self._clock.monotonic() >= until:
            raise Refused(f"the time in which {self.instance} was to be drained is over", field="arguments.for_s",
                          place=command.command_id)

    async def _serve(self) -> str:
        drained = self._health.drained
        self._health.serve()
        return f"{self.instance} serves" + (" again" if drained else ", as it did before")

    def _course(self, deadline: float, until: float) -> Course:
        quiet_since = self._clock.monotonic()

        def ended() -> str | None:
            nonlocal quiet_since
            now, count = self._clock.monotonic(), self._under_way()
            if not self._health.drained:
                raise Refused(f"{self.instance} serves again: it was let go, or its time was over, before its "
                              "requests had ended", place=self.instance)
            if count and now >= deadline:
                raise Busy(f"{count} requests of {self.instance} have not ended in time; it gets no new ones for "
                           f"{until - now:.0f} s", place=self.instance, remedy="restart it, or let it go")
            if count:
                quiet_since = now
            if count or now - quiet_since < QUIET_S:
                return None
            return (f"{self.instance} has no more requests, and gets none for {until - now:.0f} s unless it is let go "
                    "or restarted")
        return ended

    async def _read_back(self, reader: Reader) -> dict[str, _Said]:
        places = sorted(reader.assignment())
        begins, ends = await reader.begin_offsets(places), await reader.end_offsets(places)
        for place in places:
            await reader.seek(place, max(begins[place], ends[place] - TAIL))
        said: dict[str, _Said] = {}
        while any(reader.position(place) < ends[place] for place in places):
            await self._hear(reader, said)
        return said

    async def _until_told(self, reader: Reader, said: dict[str, _Said]) -> None:
        """Return when the bus has it that this process is DRAINING. Raises Unavailable when that does not come."""
        ends_at = self._clock.monotonic() + TOLD_S
        while not ((own := said.get(self.instance)) is not None and own.instance.boot_id == self._boot_id
                   and own.instance.drained):
            if self._clock.monotonic() >= ends_at:
                raise Unavailable(f"{self.instance} could not say that it is drained", place=self.instance,
                                  remedy="try again once the bus carries")
            await self._hear(reader, said)

    async def _hear(self, reader: Reader, said: dict[str, _Said]) -> None:
        for records in (await reader.poll(max_records=TAIL, timeout_s=POLL_S)).values():
            for record in records:
                name = (record.key or b"").decode("utf-8", "replace")
                if record.value is None:
                    said.pop(name, None)
                    continue
                try:
                    said[name] = _Said(codec.decode_as(Topic.INSTANCES, Instance, record.value), record.timestamp_ms)
                except Invalid:
                    # Those that follow the topic report it; who cannot be read does not count as ready.
                    said.pop(name, None)

    def _check(self, said: dict[str, _Said]) -> None:
        """Raises Refused where no other process of this service is ready."""
        newest_ms = max((one.at_ms for one in said.values()), default=0)
        if not any(one.instance.service == self._service and name != self.instance
                   and one.instance.state == telemetry_pb2.INSTANCE_STATE_READY
                   and newest_ms - one.at_ms < SILENT_MS for name, one in said.items()):
            raise Refused(f"{self.instance} is the last {self._service} that is ready: nobody would serve",
                          place=self.instance, remedy=f"start another {self._service} first, or restart this one")
