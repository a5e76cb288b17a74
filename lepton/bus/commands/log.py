"""The log of recovery commands, read without a group: every process obeys what concerns all of its service.

The signed log is itself the memory of what was commanded: each process reads it from its beginning at start, and judges
a command by the broker's time of its record and by nothing local.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
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
Verb = Callable[[str, RecoveryCommand, Record], Awaitable[str]]
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


class CommandLog:
    """Obeys what is among the duties of its service; what is for others passes by.

    A command that nobody vouches for is reported and not answered.
    """

    def __init__(self, broker: Broker, admission: Admission, answer: Answer, care: Care, duties: Duties,
                 instance: str) -> None:
        self._admission = admission
        self._answer = answer
        self._care = care
        self._instance = instance
        self._duties = duties
        self._reader = broker.reader([topics.name(Topic.RECOVERY_COMMANDS)], group=None,
                                     client_id=f"{instance}-recovery")
        self._unanswered: list[RecoveryResult] = []

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
            if not command.target.startswith(self._duties.target) or command.action not in self._duties.verbs:
                return None
            role = self._admission.check_signer(command, at)
        except (Invalid, Refused) as error:
            self._care.report("command_not_believed", str(error), record.place)
            return None
        result = await self._obey(command, role, record, at)
        log.info("recovery command %s: %s", command.command_id, result.evidence)
        return None if settled and command.expires_at.ToDatetime(UTC) <= self._care.clock.now() else result

    async def _obey(self, command: RecoveryCommand, role: Role, record: Record, at: datetime) -> RecoveryResult:
        result = RecoveryResult(command_id=command.command_id, target=command.target, executor=self._instance,
                                incident_id=command.incident_id)
        result.at.FromDatetime(self._care.clock.now())
        try:
            self._admission.admit(command, role, at)
            done, before = self._admission.done_before(command)
            if done and before is not None:
                # Told again, not done again: meanwhile another command may have decided otherwise.
                return before
            verb = self._duties.verbs[command.action]
            result.evidence = await verb(command.target.removeprefix(self._duties.target), command, record)
            result.outcome = recovery_pb2.RECOVERY_OUTCOME_DONE
            self._admission.keep(command, result, at)
        except LeptonError as error:
            result.outcome, result.evidence = self._duties.outcome(error), str(error)
        return result
