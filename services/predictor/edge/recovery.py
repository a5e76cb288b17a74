"""Recovery commands for models: which verb of the library each asks for, and what is answered.

Every process answers requests, so every process obeys. What was commanded before a process started counts only while
the registry still names the version that was to be left.
"""

from datetime import UTC

from lepton.bus.care import Care
from lepton.bus.commands.log import Answer, CommandLog, Duties
from lepton.bus.records import Broker, Record
from lepton.contracts.admission import Admission
from lepton.contracts.pb import recovery_pb2
from lepton.contracts.pb.recovery_pb2 import RecoveryCommand
from lepton.errors import Invalid
from services.predictor.flow.library import Library

TARGET = "model:"


class RecoveryCommands(CommandLog):
    """Starts after the registry was read: a command is about what that names."""

    def __init__(self, broker: Broker, library: Library, admission: Admission, answer: Answer, care: Care,
                 instance: str) -> None:
        async def fall_back(model: str, command: RecoveryCommand, _: Record) -> str:
            return await library.fall_back(model, _leaving(command), command.issued_at.ToDatetime(UTC))

        async def restore(model: str, _: RecoveryCommand, __: Record) -> str:
            return await library.restore(model)

        duties = Duties(TARGET, {recovery_pb2.RECOVERY_ACTION_FALL_BACK: fall_back,
                                 recovery_pb2.RECOVERY_ACTION_RESTORE: restore})
        super().__init__(broker, admission, answer, care, duties, instance)


def _leaving(command: RecoveryCommand) -> int:
    """The version to leave. Raises Invalid."""
    text = command.arguments.get("from_version", "")
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise Invalid("must be the number of the version to leave", field="arguments.from_version",
                      place=command.command_id)
    return int(text)
