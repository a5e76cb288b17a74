"""Recovery commands on their way out: the core's words for actions as the wire's, signed, with expiry and fence.

The watchdog itself carries out none: the process manager restarts it.
"""

from collections.abc import Mapping
from datetime import timedelta

from lepton.bus.producer import Producer
from lepton.clock import Clock
from lepton.contracts import names
from lepton.contracts.pb import recovery_pb2
from lepton.contracts.pb.recovery_pb2 import RecoveryCommand
from lepton.contracts.signing import Identity, sign_message
from lepton.contracts.topics import Topic
from lepton.runtime.telemetry import Telemetry

ACTIONS: Mapping[str, "recovery_pb2.RecoveryAction.ValueType"] = {
    "restart": recovery_pb2.RECOVERY_ACTION_RESTART,
    "roll_back": recovery_pb2.RECOVERY_ACTION_ROLL_BACK,
    "retrain": recovery_pb2.RECOVERY_ACTION_RETRAIN,
    "tune": recovery_pb2.RECOVERY_ACTION_TUNE,
    "fine_tune": recovery_pb2.RECOVERY_ACTION_FINE_TUNE,
    "cancel": recovery_pb2.RECOVERY_ACTION_CANCEL,
    "quarantine": recovery_pb2.RECOVERY_ACTION_QUARANTINE,
    "pause": recovery_pb2.RECOVERY_ACTION_PAUSE,
    "resume": recovery_pb2.RECOVERY_ACTION_RESUME,
    "replay_dead_letters": recovery_pb2.RECOVERY_ACTION_REPLAY_DEAD_LETTERS,
    "fall_back": recovery_pb2.RECOVERY_ACTION_FALL_BACK,
    "throttle": recovery_pb2.RECOVERY_ACTION_THROTTLE,
    "shed": recovery_pb2.RECOVERY_ACTION_SHED,
    "drain": recovery_pb2.RECOVERY_ACTION_DRAIN,
    "restore_backup": recovery_pb2.RECOVERY_ACTION_RESTORE_BACKUP,
    "restore": recovery_pb2.RECOVERY_ACTION_RESTORE,
    "scale_out": recovery_pb2.RECOVERY_ACTION_SCALE,
    "scale_in": recovery_pb2.RECOVERY_ACTION_SCALE,
}


class Commands:
    """Issues commands in the name of `issuer`."""

    def __init__(self, producer: Producer, identity: Identity, issuer: str, clock: Clock, telemetry: Telemetry) -> None:
        self._producer = producer
        self._identity = identity
        self._issuer = issuer
        self._clock = clock
        self._issued = telemetry.counter(names.COMMANDS)

    async def send(self, command_id: str, action: str, target: str, arguments: Mapping[str, str], *, cause: str,
                   incident_id: str, valid_s: float, fence: int) -> None:
        """Return once the command is durable. Raises Unavailable; sending it again is harmless: it keeps its id."""
        now = self._clock.now()
        message = RecoveryCommand(command_id=command_id, action=ACTIONS[action], target=target, arguments=arguments,
                                  cause=cause, incident_id=incident_id, issuer=self._issuer, fence=fence)
        message.issued_at.FromDatetime(now)
        message.expires_at.FromDatetime(now + timedelta(seconds=valid_s))
        sign_message(self._identity, message)
        await self._producer.send(Topic.RECOVERY_COMMANDS, message, key=target)
        self._issued.add(1, {"action": action})
