"""Recovery commands for models, and for this process: which verb of the library each asks for, and what is answered.

Every process answers requests, so every process obeys those for models. What was commanded before a process started
counts only while the registry still names the version that was to be left, and a shed for the time it was given, from
when it was issued.
"""

from datetime import UTC

from lepton.bus.care import Care
from lepton.bus.commands.arguments import seconds
from lepton.bus.commands.draining import Draining
from lepton.bus.commands.log import Answer, CommandLog, Duties
from lepton.bus.records import Broker, Record
from lepton.contracts.admission import Admission
from lepton.contracts.pb import recovery_pb2
from lepton.contracts.pb.recovery_pb2 import RecoveryCommand
from lepton.errors import Invalid
from services.predictor.flow.library import Library
from services.predictor.flow.predictor import ALL_MODELS, Predictor

TARGET = "model:"
MOST_S = 86_400.0
FALL_BACK, SHED = "fall_back", "shed"
"""What a RESTORE may be about alone."""


class RecoveryCommands(CommandLog):
    """Starts after the registry was read: a command is about what that names."""

    def __init__(self, broker: Broker, library: Library, predictor: Predictor, draining: Draining, admission: Admission,
                 answer: Answer, care: Care) -> None:
        async def fall_back(model: str, command: RecoveryCommand, _: Record) -> str:
            return await library.fall_back(model, _leaving(command), command.issued_at.ToDatetime(UTC))

        async def shed(model: str, command: RecoveryCommand, _: Record) -> str:
            return predictor.shed(model, _keep(command), _unnamed(command), seconds(command, "for_s", MOST_S),
                                  command.issued_at.ToDatetime(UTC))

        async def restore(model: str, command: RecoveryCommand, _: Record) -> str:
            what, said = _what(command), []
            if what == SHED or model == ALL_MODELS or (not what and model in predictor.shedding.standing()):
                said.append(predictor.shed_no_more(model))
            if what == FALL_BACK or (not what and model != ALL_MODELS):
                said.append(await library.restore(model))
            return "; ".join(said)

        duties = Duties(TARGET, {recovery_pb2.RECOVERY_ACTION_FALL_BACK: fall_back,
                                 recovery_pb2.RECOVERY_ACTION_SHED: shed,
                                 recovery_pb2.RECOVERY_ACTION_RESTORE: restore})
        super().__init__(broker, admission, answer, care, (duties, draining.duties()), draining.instance)


def _leaving(command: RecoveryCommand) -> int:
    """The version to leave. Raises Invalid."""
    return _whole(command, "from_version", "must be the number of the version to leave")


def _keep(command: RecoveryCommand) -> int:
    """The last level that is answered. Raises Invalid; the first is what matters most, so it always is."""
    said = "must be the last priority level that is answered, 1 or more"
    keep = _whole(command, "keep", said)
    if keep < 1:
        raise Invalid(said, field="arguments.keep", place=command.command_id)
    return keep


def _unnamed(command: RecoveryCommand) -> bool:
    """Raises Invalid."""
    unnamed = command.arguments.get("unnamed", "false")
    if unnamed not in ("true", "false"):
        raise Invalid("must be true or false", field="arguments.unnamed", place=command.command_id)
    return unnamed == "true"


def _what(command: RecoveryCommand) -> str:
    """What is to end; empty: everything. Raises Invalid."""
    what = command.arguments.get("what", "")
    if what not in ("", FALL_BACK, SHED):
        raise Invalid(f"must be {FALL_BACK} or {SHED}, or left out", field="arguments.what", place=command.command_id)
    return what


def _whole(command: RecoveryCommand, name: str, said: str) -> int:
    """Raises Invalid with `said`."""
    text = command.arguments.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise Invalid(said, field=f"arguments.{name}", place=command.command_id)
    return int(text)
