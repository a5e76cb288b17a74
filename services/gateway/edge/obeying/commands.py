"""Recovery commands about clients, and about this process: which verb each asks for, and what is answered.

Every gateway obeys those about clients. One that begins reads what was commanded before: a throttle holds for the time
it was given, counted from when it was issued.
"""

from datetime import UTC

from lepton.bus.care import Care
from lepton.bus.commands.arguments import number, seconds
from lepton.bus.commands.draining import Draining
from lepton.bus.commands.log import Answer, CommandLog, Duties
from lepton.bus.records import Broker, Record
from lepton.contracts.admission import Admission
from lepton.contracts.pb import recovery_pb2
from lepton.contracts.pb.recovery_pb2 import RecoveryCommand
from services.gateway.flow.access import Access

TARGET = "client:"
MOST_S, MOST_PER_S = 86_400.0, 1e6


class RecoveryCommands(CommandLog):
    """Throttles and drains, and their ends."""

    def __init__(self, broker: Broker, access: Access, draining: Draining, admission: Admission, answer: Answer,
                 care: Care, instance: str) -> None:
        async def throttle(key: str, command: RecoveryCommand, _: Record) -> str:
            return access.throttle(key, number(command, "rate_per_s", MOST_PER_S), seconds(command, "for_s", MOST_S),
                                   command.issued_at.ToDatetime(UTC))

        async def release(key: str, _: RecoveryCommand, __: Record) -> str:
            return access.release(key)

        duties = Duties(TARGET, {recovery_pb2.RECOVERY_ACTION_THROTTLE: throttle,
                                 recovery_pb2.RECOVERY_ACTION_RESTORE: release})
        super().__init__(broker, admission, answer, care, (duties, draining.duties()), instance)
