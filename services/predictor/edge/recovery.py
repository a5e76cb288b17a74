"""Recovery commands for models: which are believed, which verb of the library each asks for, and what is answered.

Every process answers requests, so every process obeys: the log is read without a group, whole at start, where what was
commanded before counts only while the registry still names the version that was to be left.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

from lepton.bus.care import Care, LagWatch
from lepton.bus.records import Broker, Record
from lepton.contracts import codec, topics
from lepton.contracts.admission import Admission
from lepton.contracts.pb import recovery_pb2
from lepton.contracts.pb.recovery_pb2 import RecoveryCommand, RecoveryResult
from lepton.contracts.topics import Topic
from lepton.errors import Busy, Invalid, LeptonError, Refused, Unavailable
from lepton.runtime.loops import pause
from services.predictor.flow.library import Library

POLL_S = 0.25
BACKOFF_S = 0.5
MAX_RECORDS = 1000
TARGET = "model:"

FALL_BACK, RESTORE = recovery_pb2.RECOVERY_ACTION_FALL_BACK, recovery_pb2.RECOVERY_ACTION_RESTORE
DONE = recovery_pb2.RECOVERY_OUTCOME_DONE

log = logging.getLogger(__name__)


class RecoveryCommands:
    """Starts after the registry was read: a command is about what that names."""

    def __init__(self, broker: Broker, library: Library, admission: Admission,
                 answer: Callable[[RecoveryResult], Awaitable[None]], care: Care, instance: str) -> None:
        self._admission = admission
        self._answer = answer
        self._care = care
        self._instance = instance
        self._reader = broker.reader([topics.name(Topic.RECOVERY_COMMANDS)], group=None,
                                     client_id=f"{instance}-recovery")
        self._unanswered: list[RecoveryResult] = []
        self._verbs: Mapping[recovery_pb2.RecoveryAction.ValueType,
                             Callable[[str, RecoveryCommand], Awaitable[str]]] = {
            FALL_BACK: lambda model, command: library.fall_back(
                model, _leaving(command), command.issued_at.ToDatetime(UTC)),
            RESTORE: lambda model, _: library.restore(model)}

    async def start(self) -> None:
        """Obey what still holds before anything is answered. Raises Unavailable when the log cannot be read."""
        await self._reader.start()
        places = sorted(self._reader.assignment())
        ends = await self._reader.end_offsets(places)
        while any(self._reader.position(place) < ends[place] for place in places):
            await self._obey_all(await self._poll(), settled=True)

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
                await pause(stop, BACKOFF_S, self._care.clock)
                continue
            await self._obey_all(records, settled=False)
            if records:
                watch.moved()
            else:
                await watch.idle()

    async def _poll(self) -> list[Record]:
        found = await self._reader.poll(max_records=MAX_RECORDS, timeout_s=POLL_S)
        return [record for place in sorted(found) for record in found[place]]

    async def _obey_all(self, records: list[Record], *, settled: bool) -> None:
        """`settled`: written before this process started, which answers those only whose time is not over."""
        for record in records:
            at = datetime.fromtimestamp(record.timestamp_ms / 1000, UTC)
            try:
                command = codec.decode_as(Topic.RECOVERY_COMMANDS, RecoveryCommand, record.value or b"")
                if not command.target.startswith(TARGET) or command.action not in self._verbs:
                    continue
                role = self._admission.check_signer(command, at)
            except (Invalid, Refused) as error:
                self._care.report("command_not_believed", str(error), record.place)
                continue
            result = RecoveryResult(command_id=command.command_id, target=command.target, executor=self._instance,
                                    incident_id=command.incident_id)
            result.at.FromDatetime(self._care.clock.now())
            try:
                self._admission.admit(command, role, at)
                done, before = self._admission.done_before(command)
                if done and before is not None:
                    result = before
                else:
                    result.evidence = await self._verbs[command.action](command.target.removeprefix(TARGET), command)
                    result.outcome = DONE
                    self._admission.keep(command, result, at)
            except LeptonError as error:
                result.outcome, result.evidence = _outcome(error), str(error)
            if not settled or command.expires_at.ToDatetime(UTC) > self._care.clock.now():
                log.info("recovery command %s: %s", command.command_id, result.evidence)
                self._unanswered.append(result)


def _outcome(error: LeptonError) -> "recovery_pb2.RecoveryOutcome.ValueType":
    passing = isinstance(error, Busy | Unavailable)
    return recovery_pb2.RECOVERY_OUTCOME_FAILED if passing else recovery_pb2.RECOVERY_OUTCOME_REFUSED


def _leaving(command: RecoveryCommand) -> int:
    """The version to leave. Raises Invalid."""
    text = command.arguments.get("from_version", "")
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise Invalid("must be the number of the version to leave", field="arguments.from_version",
                      place=command.command_id)
    return int(text)
