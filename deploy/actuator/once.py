"""Carrying a command out once: who may order it, what came of it, and the same answer when it comes again."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from deploy.actuator.memory import Memory
from lepton.clock import Clock
from lepton.contracts.admission import Admission
from lepton.contracts.pb import recovery_pb2
from lepton.contracts.pb.recovery_pb2 import RecoveryCommand, RecoveryResult
from lepton.contracts.signing import TrustStore
from lepton.errors import Busy, Invalid, Missing, Refused

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Done:
    """What was done, for a person; `found_ended`: whom a restart found ended by themselves."""

    evidence: str
    found_ended: tuple[str, ...] = ()


class NotDone(Busy):
    """It was tried and did not come about; `found_ended` as of what was done."""

    def __init__(self, failure: Busy, found_ended: tuple[str, ...]) -> None:
        super().__init__(failure.message, retry_after_s=failure.retry_after_s, field=failure.field,
                         place=failure.place, remedy=failure.remedy)
        self.found_ended = found_ended


class Once:
    """`name` is who answers; `memory` outlives the process."""

    def __init__(self, name: str, trust: TrustStore, memory: Memory, skew: timedelta, clock: Clock) -> None:
        self._name = name
        self._admission = Admission(trust, skew, memory.newest_fence)
        self._memory = memory
        self._clock = clock

    async def carry_out(self, command: RecoveryCommand,
                        act: Callable[[RecoveryCommand], Awaitable[str | Done]]) -> RecoveryResult:
        """The result to publish, with what `act` returns as evidence; what it raises is an outcome too.

        Unavailable is passed on: the command waits, and expires.
        """
        try:
            if (before := self._memory.result_of(command)) is not None:
                return before
            now = self._clock.now()
            self._admission.admit(command, self._admission.check_signer(command, now), now)
            done = await act(command)
        except (Refused, Invalid, Missing) as error:
            return self._result(command, recovery_pb2.RECOVERY_OUTCOME_REFUSED, str(error))
        except Busy as error:
            ended = error.found_ended if isinstance(error, NotDone) else ()
            result = self._result(command, recovery_pb2.RECOVERY_OUTCOME_FAILED, str(error), ended)
        else:
            done = Done(done) if isinstance(done, str) else done
            result = self._result(command, recovery_pb2.RECOVERY_OUTCOME_DONE, done.evidence, done.found_ended)
        try:
            self._memory.keep(command, result, self._admission.newest_fence, self._clock.now())
        except OSError as error:
            # A full disk is what others are to be healed of. Whoever heals goes on: at worst, one that is restarted
            # before there is room does a command twice, and commands expire.
            log.error("what became of command %s cannot be kept over a restart: %s; make room there",
                      command.command_id, error)
        return result

    def _result(self, command: RecoveryCommand, outcome: recovery_pb2.RecoveryOutcome.ValueType,
                evidence: str, found_ended: Sequence[str] = ()) -> RecoveryResult:
        result = RecoveryResult(command_id=command.command_id, target=command.target, outcome=outcome,
                                evidence=evidence, executor=self._name, incident_id=command.incident_id,
                                found_ended=found_ended)
        result.at.FromDatetime(self._clock.now())
        return result
