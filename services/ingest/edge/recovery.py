"""Recovery commands for pipelines: which are believed, which flow verb each asks for, and what is answered.

The signed log of commands is itself the memory of quarantines: every process reads it from its beginning at start and
comes to the same decisions, because a command is judged by the broker's time of its record and by nothing local.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta

from lepton.bus.care import Care, LagWatch
from lepton.bus.records import Broker, Record
from lepton.clock import Clock
from lepton.contracts import codec, topics
from lepton.contracts.admission import Admission
from lepton.contracts.pb import recovery_pb2
from lepton.contracts.pb.recovery_pb2 import RecoveryCommand, RecoveryResult
from lepton.contracts.signing import Role, TrustStore
from lepton.contracts.topics import Topic
from lepton.errors import Invalid, LeptonError, Refused, Unavailable
from lepton.runtime.loops import pause
from services.ingest.edge.errors import answer
from services.ingest.flow.ingest import Ingest

POLL_S = 0.25
BACKOFF_S = 0.5
MAX_RECORDS = 1000
TARGET = "pipeline:"

Answer = Callable[[RecoveryResult], Awaitable[None]]

# Whether the source is quarantined after the command; None: it is about the pipeline's line.
VERBS: Mapping["recovery_pb2.RecoveryAction.ValueType", bool | None] = {
    recovery_pb2.RECOVERY_ACTION_QUARANTINE: True,
    recovery_pb2.RECOVERY_ACTION_RESTORE: False,
    recovery_pb2.RECOVERY_ACTION_RESUME: None,
}

log = logging.getLogger(__name__)


class RecoveryCommands:
    """Follows the log without a group: each process of ingest must know what is quarantined."""

    def __init__(self, broker: Broker, ingest: Ingest, trust: TrustStore, answer: Answer, care: Care, *,
                 instance: str, skew_s: float) -> None:
        self._ingest = ingest
        self._answer = answer
        self._care = care
        self._clock: Clock = care.clock
        self._instance = instance
        self._admission = Admission(trust, timedelta(seconds=skew_s))
        self._reader = broker.reader([topics.name(Topic.RECOVERY_COMMANDS)], group=None,
                                     client_id=f"{instance}-recovery")
        self._unanswered: list[RecoveryResult] = []

    async def start(self) -> None:
        """Know every quarantine before the first event is judged."""
        await self._reader.start()
        places = sorted(self._reader.assignment())
        ends = await self._reader.end_offsets(places)
        while any(self._reader.position(place) < ends[place] for place in places):
            for record in await self._poll():
                result = await self._execute(record, settled=True)
                if result is not None:
                    self._unanswered.append(result)

    async def stop(self) -> None:
        await self._reader.stop()

    async def run(self, stop: asyncio.Event) -> None:
        watch = LagWatch(self._reader, self._care)
        while not stop.is_set():
            try:
                while self._unanswered:
                    await self._answer(self._unanswered[0])
                    del self._unanswered[0]
                records = await self._poll()
            except Unavailable as error:
                log.warning("recovery commands wait: %s", error.message)
                await pause(stop, BACKOFF_S, self._clock)
                continue
            for record in records:
                result = await self._execute(record, settled=False)
                if result is not None:
                    self._unanswered.append(result)
            if records:
                watch.moved()
            else:
                await watch.idle()

    async def _poll(self) -> list[Record]:
        found = await self._reader.poll(max_records=MAX_RECORDS, timeout_s=POLL_S)
        return [record for place in sorted(found) for record in found[place]]

    async def _execute(self, record: Record, *, settled: bool) -> RecoveryResult | None:
        """The result to publish; None for a command that is not ours or nobody vouches for.

        `settled`: it was written before this process started, which answers it only if its time is not over.
        """
        at = datetime.fromtimestamp(record.timestamp_ms / 1000, UTC)
        try:
            command = codec.decode_as(Topic.RECOVERY_COMMANDS, RecoveryCommand, record.value or b"")
            if not command.target.startswith(TARGET) or command.action not in VERBS:
                return None
            role = self._admission.check_signer(command, at)
        except (Invalid, Refused) as error:
            self._care.report("command_not_believed", str(error), record.place)
            return None
        result = await self._obey(command, role, record, at)
        log.info("recovery command %s: %s", command.command_id, result.evidence)
        return None if settled and command.expires_at.ToDatetime(UTC) <= self._clock.now() else result

    async def _obey(self, command: RecoveryCommand, role: Role, record: Record, at: datetime) -> RecoveryResult:
        result = RecoveryResult(command_id=command.command_id, target=command.target, executor=self._instance,
                                incident_id=command.incident_id)
        result.at.FromDatetime(self._clock.now())
        try:
            self._admission.admit(command, role, at)
            done, before = self._admission.done_before(command)
            if done and before is not None:
                # Told again, not done again: meanwhile another command may have decided otherwise.
                return before
            name, quarantined = command.target.removeprefix(TARGET), VERBS[command.action]
            if quarantined is None:
                result.evidence = await self._ingest.resume(name)
            else:
                result.evidence = await self._ingest.quarantine(name, command.arguments["source"], quarantined,
                                                                (record.timestamp_ms, record.offset))
            result.outcome = recovery_pb2.RECOVERY_OUTCOME_DONE
            self._admission.keep(command, result, at)
        except LeptonError as error:
            result.outcome = answer(error)
            result.evidence = str(error)
        return result
