"""A person's word on what the watchdog asked: signed commands about incidents, believed of operators only."""

from lepton.bus.consumer import Message
from lepton.clock import Clock
from lepton.contracts import topics
from lepton.contracts.admission import Admission
from lepton.contracts.pb import recovery_pb2
from lepton.contracts.pb.recovery_pb2 import RecoveryCommand
from lepton.contracts.topics import Topic
from lepton.errors import Refused
from services.watchdog.edge.feeds import Source
from services.watchdog.flow.observing import Observing

TARGET = "incident:"
WORDS = frozenset({recovery_pb2.RECOVERY_ACTION_APPROVE, recovery_pb2.RECOVERY_ACTION_DENY})


def source(observing: Observing, admission: Admission, clock: Clock) -> dict[str, Source]:
    """Raises Refused for a word that nobody vouches for, that is not an operator's, or whose time is over."""

    def take(message: Message) -> None:
        command = message.payload
        if not isinstance(command, RecoveryCommand) or not command.target.startswith(TARGET):
            return
        if command.action not in WORDS:
            return
        now = clock.now()
        role = admission.check_signer(command, now)
        if role != "operator":
            raise Refused("only an operator's word counts", field="key_id", place=command.command_id)
        admission.admit(command, role, now)
        observing.approval(command)

    return {topics.name(Topic.RECOVERY_COMMANDS): Source(take)}
