"""Recovery commands for models: which are believed, which flow verb each asks for, and what is answered when."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from lepton.bus.consumer import Message
from lepton.clock import Clock
from lepton.contracts.admission import Admission
from lepton.contracts.pb import recovery_pb2
from lepton.contracts.pb.recovery_pb2 import RecoveryCommand, RecoveryResult
from lepton.errors import LeptonError
from services.trainer.edge.errors import PASSING, answer
from services.trainer.flow.requests import Requests

TARGET = "model:"
ROLL_BACK, RETRAIN = recovery_pb2.RECOVERY_ACTION_ROLL_BACK, recovery_pb2.RECOVERY_ACTION_RETRAIN
TUNE, FINE_TUNE = recovery_pb2.RECOVERY_ACTION_TUNE, recovery_pb2.RECOVERY_ACTION_FINE_TUNE
CANCEL = recovery_pb2.RECOVERY_ACTION_CANCEL

Send = Callable[[RecoveryResult], Awaitable[None]]

log = logging.getLogger(__name__)


class RecoveryCommands:
    """Commands of others pass by. A roll back and a cancel are answered at once; a training when its run has ended, by
    the flow.

    A command nobody vouches for goes to the dead letters and is not answered: the answer would carry an id its forger
    chose. One that is signed and may not be carried out is answered as refused.
    """

    def __init__(self, requests: Requests, admission: Admission, send: Send, clock: Clock) -> None:
        self._requests = requests
        self._admission = admission
        self._send = send
        self._clock = clock
        self._verbs: Mapping[recovery_pb2.RecoveryAction.ValueType,
                             Callable[[RecoveryCommand, str], Awaitable[str | None]]] = {
            ROLL_BACK: self._roll_back, CANCEL: self._cancel, RETRAIN: partial(self._train, requests.retrain),
            TUNE: partial(self._train, requests.tune), FINE_TUNE: partial(self._train, requests.fine_tune)}

    async def handle(self, message: Message) -> None:
        """Raises Refused for a command with no trusted signature, Unavailable or Busy to have it tried again."""
        command = message.payload
        if not isinstance(command, RecoveryCommand) or not command.target.startswith(TARGET):
            return
        if command.action not in self._verbs:
            return
        now = self._clock.now()
        role = self._admission.check_signer(command, now)
        try:
            done, result = self._admission.done_before(command)
            if not done:
                self._admission.admit(command, role, now)
                evidence = await self._verbs[command.action](command, message.envelope.traceparent or "")
                if evidence is not None:
                    result = self._result(command, recovery_pb2.RECOVERY_OUTCOME_DONE, evidence)
                self._admission.keep(command, result, now)
        except PASSING:
            raise
        except LeptonError as error:
            result = self._result(command, answer(error), str(error))
        if result is not None:
            log.info("recovery command %s: %s", command.command_id, result.evidence)
            await self._send(result)

    async def _roll_back(self, command: RecoveryCommand, _: str) -> str:
        return await self._requests.roll_back(command)

    async def _cancel(self, command: RecoveryCommand, _: str) -> str:
        return await self._requests.cancel(command)

    @staticmethod
    async def _train(queue: Callable[[RecoveryCommand, str], Awaitable[str]], command: RecoveryCommand,
                     traceparent: str) -> None:
        run_id = await queue(command, traceparent)
        log.info("recovery command %s is carried out by %s", command.command_id, run_id)

    def _result(self, command: RecoveryCommand, outcome: "recovery_pb2.RecoveryOutcome.ValueType",
                evidence: str) -> RecoveryResult:
        result = RecoveryResult(command_id=command.command_id, target=command.target, outcome=outcome,
                                evidence=evidence, incident_id=command.incident_id)
        result.at.FromDatetime(self._clock.now())
        return result
