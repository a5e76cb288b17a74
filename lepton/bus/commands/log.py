"""The log of recovery commands, read without a group: every process obeys what concerns all of its service.

The signed log is itself the memory of what was commanded: each process reads it from its beginning at start, and judges
a command by the broker's time of its record and by nothing local.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from lepton.bus.care import Care, LagWatch
from lepton.bus.records import Broker, Record
from lepton.contracts import codec, topics
from lepton.contracts.admission import Admission
from lepton.contracts.pb import recovery_pb2
from lepton.contracts.pb.recovery_pb2 import RecoveryCommand, RecoveryResult
from lepton.contracts.signing import Role
from lepton.contracts.topics import Topic
from lepton.errors import Busy, Invalid, LeptonError, Refused, Unavailable
from lepton.runtime.loops import pause

POLL_S = 0.25
BACKOFF_S = 0.5
MAX_RECORDS = 1000

Answer = Callable[[RecoveryResult], Awaitable[None]]
Course = Callable[[], str | None]
"""What takes its time, asked again and again: None until it has ended, then the evidence; raises what is answered
otherwise."""
Verb = Callable[[str, RecoveryCommand, Record], Awaitable[str | Course]]
"""Carries a command out for the name its target has, and gives the evidence; raises what is answered otherwise."""
Outcome = Callable[[LeptonError], "recovery_pb2.RecoveryOutcome.ValueType"]

log = logging.getLogger(__name__)


def outcome_of(error: LeptonError) -> "recovery_pb2.RecoveryOutcome.ValueType":
    """FAILED of what may be otherwise the next time, else REFUSED."""
    passing = isinstance(error, Busy | Unavailable)
    return recovery_pb2.RECOVERY_OUTCOME_FAILED if passing else recovery_pb2.RECOVERY_OUTCOME_REFUSED


@dataclass(frozen=True)
class Duties:
    """What a service obeys: commands whose target begins with `target` and whose action has a verb."""

    target: str
    verbs: Mapping["recovery_pb2.RecoveryAction.ValueType", Verb]
    outcome: Outcome = outcome_of
    """What an error of a verb is answered as."""
    only: str = ""
    """The one name that is meant; empty: every name."""
    passing: bool = False
    """Their effect ends with the process: what was commanded before it began was for another, and is left alone."""

    def cover(self, command: RecoveryCommand) -> bool:
        named = command.target == self.target + self.only if self.only else command.target.startswith(self.target)
        return named and command.action in self.verbs


@dataclass(frozen=True)
class _Ongoing:
    """A command that is being carried out, and the answer it will get."""

    command: RecoveryCommand
    result: RecoveryResult
    course: Course
    at: datetime
    outcome: Outcome


class CommandLog:
    """Obeys what is among the duties of its service; what is for others passes by.

    A command that nobody vouches for is reported and not answered. One after the other: those that follow wait for what
    a verb awaits (a drain: until the bus has it, some seconds at most while that carries), but not for the course it
    gives, which is answered when it has ended.
    """

    def __init__(self, broker: Broker, admission: Admission, answer: Answer, care: Care, duties: Sequence[Duties],
                 instance: str) -> None:
        self._admission = admission
        self._answer = answer
        self._care = care
        self._instance = instance
        self._duties = duties
        self._reader = broker.reader([topics.name(Topic.RECOVERY_COMMANDS)], group=None,
                                     client_id=f"{instance}-recovery")
        self._unanswered: list[RecoveryResult] = []
        self._ongoing: list[_Ongoing] = []

    async def start(self) -> None:
        """Obey all that was commanded before anything else is done. Raises Unavailable when it cannot be read."""
        await self._reader.start()
        places = sorted(self._reader.assignment())
        ends = await self._reader.end_offsets(places)
        while any(self._reader.position(place) < ends[place] for place in places):
            await self._execute_all(await self._poll(), settled=True)

    async def stop(self) -> None:
        await self._reader.stop()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`: obey what comes, and answer."""
        watch = LagWatch(self._reader, self._care)
        while not stop.is_set():
            try:
                while self._unanswered:
                    await self._answer(self._unanswered[0])
                    del self._unanswered[0]
                records = await self._poll()
            except Unavailable as error:
                log.warning("recovery commands wait: %s", error.message)
                await pause(stop, BACKOFF_S, self._care.clock)
                continue
            await self._execute_all(records, settled=False)
            self._ongoing = [one for one in self._ongoing if not self._ended(one)]
            if records:
                watch.moved()
            else:
                await watch.idle()

    async def _poll(self) -> list[Record]:
        found = await self._reader.poll(max_records=MAX_RECORDS, timeout_s=POLL_S)
        return [record for place in sorted(found) for record in found[place]]

    async def _execute_all(self, records: list[Record], *, settled: bool) -> None:
        for record in records:
            result = await self._execute(record, settled=settled)
            if result is not None:
                self._unanswered.append(result)

    async def _execute(self, record: Record, *, settled: bool) -> RecoveryResult | None:
        """The result to publish; None for a command that is not ours or nobody vouches for.

        `settled`: it was written before this process started, which answers it only if its time is not over.
        """
        at = datetime.fromtimestamp(record.timestamp_ms / 1000, UTC)
        try:
            command = codec.decode_as(Topic.RECOVERY_COMMANDS, RecoveryCommand, record.value or b"")
            duties = next((one for one in self._duties if one.cover(command)), None)
            if duties is None or (settled and duties.passing):
                return None
            role = self._admission.check_signer(command, at)
        except (Invalid, Refused) as error:
            self._care.report("command_not_believed", str(error), record.place)
            return None
        result = await self._obey(command, duties, role, record)
        if result is None:
            return None
        log.info("recovery command %s: %s", command.command_id, result.evidence)
        return None if settled and command.expires_at.ToDatetime(UTC) <= self._care.clock.now() else result

    async def _obey(self, command: RecoveryCommand, duties: Duties, role: Role,
                    record: Record) -> RecoveryResult | None:
        """What is answered; None when that comes later."""
        at = datetime.fromtimestamp(record.timestamp_ms / 1000, UTC)
        result = RecoveryResult(command_id=command.command_id, target=command.target, executor=self._instance,
                                incident_id=command.incident_id)
        try:
            self._admission.admit(command, role, at)
            done, before = self._admission.done_before(command)
            if done and before is not None:
                # Told again, not done again: meanwhile another command may have decided otherwise.
                return before
            name = command.target.removeprefix(duties.target)
            told = await duties.verbs[command.action](name, command, record)
            if not isinstance(told, str):
                self._ongoing.append(_Ongoing(command, result, told, at, duties.outcome))
                return None
            self._done(command, result, told, at)
        except LeptonError as error:
            result.outcome, result.evidence = duties.outcome(error), str(error)
        result.at.FromDatetime(self._care.clock.now())
        return result

    def _ended(self, one: _Ongoing) -> bool:
        try:
            told = one.course()
            if told is None:
                return False
            self._done(one.command, one.result, told, one.at)
        except LeptonError as error:
            one.result.outcome, one.result.evidence = one.outcome(error), str(error)
        one.result.at.FromDatetime(self._care.clock.now())
        log.info("recovery command %s: %s", one.command.command_id, one.result.evidence)
        self._unanswered.append(one.result)
        return True

    def _done(self, command: RecoveryCommand, result: RecoveryResult, evidence: str, at: datetime) -> None:
        result.evidence, result.outcome = evidence, recovery_pb2.RECOVERY_OUTCOME_DONE
        self._admission.keep(command, result, at)
