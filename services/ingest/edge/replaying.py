"""Recovery commands that one process of ingest carries out for all: sending dead letters back.

What every process must know, as which source is quarantined, is read without a group (`edge/recovery.py`); an effect
outside of the process is to happen once, so these commands come through one.
"""

import logging
from collections.abc import Awaitable, Callable

from lepton.bus.consumer import Message
from lepton.clock import Clock
from lepton.contracts.admission import Admission
from lepton.contracts.pb import recovery_pb2
from lepton.contracts.pb.recovery_pb2 import RecoveryCommand, RecoveryResult
from lepton.errors import Busy, LeptonError, Unavailable
from services.ingest.edge.errors import answer
from services.ingest.flow.upkeep.replaying import Replaying

GROUP = "ingest.recovery-commands"
TARGET = "pipeline:"

log = logging.getLogger(__name__)


class ReplayCommands:
    """Commands of others pass by; one that nobody vouches for goes to the dead letters and is not answered."""

    def __init__(self, replaying: Replaying, admission: Admission, send: Callable[[RecoveryResult], Awaitable[None]],
                 clock: Clock, instance: str) -> None:
        self._replaying = replaying
        self._admission = admission
        self._send = send
        self._clock = clock
        self._instance = instance

    async def handle(self, message: Message) -> None:
        """Raises Refused for a command with no trusted signature, Unavailable or Busy to have it tried again."""
        command = message.payload
        if not isinstance(command, RecoveryCommand) or not command.target.startswith(TARGET):
            return
        if command.action != recovery_pb2.RECOVERY_ACTION_REPLAY_DEAD_LETTERS:
            return
        now = self._clock.now()
        role = self._admission.check_signer(command, now)
        result = RecoveryResult(command_id=command.command_id, target=command.target, executor=self._instance,
                                incident_id=command.incident_id)
        result.at.FromDatetime(now)
        try:
            done, before = self._admission.done_before(command)
            if not done:
                self._admission.admit(command, role, now)
                result.evidence = await self._replaying.replay(command.target.removeprefix(TARGET), command.arguments)
                result.outcome = recovery_pb2.RECOVERY_OUTCOME_DONE
                self._admission.keep(command, result, now)
            elif before is not None:
                result = before
        except (Busy, Unavailable):
            raise
        except LeptonError as error:
            result.outcome, result.evidence = answer(error), str(error)
        log.info("recovery command %s: %s", command.command_id, result.evidence)
        await self._send(result)
