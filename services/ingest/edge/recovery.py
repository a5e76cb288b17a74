"""Recovery commands for pipelines: which flow verb each asks for.

The log of commands is itself the memory of quarantines: every process comes to the same decisions from it.
"""

from datetime import timedelta

from lepton.bus.care import Care
from lepton.bus.commands.log import Answer, CommandLog, Duties, Verb
from lepton.bus.records import Broker, Record
from lepton.contracts.admission import Admission
from lepton.contracts.pb import recovery_pb2
from lepton.contracts.pb.recovery_pb2 import RecoveryCommand
from lepton.contracts.signing import TrustStore
from lepton.errors import Refused
from services.ingest.edge import errors
from services.ingest.flow.ingest import Ingest

TARGET = "pipeline:"


class RecoveryCommands(CommandLog):
    """Starts before the first event is judged: each process of ingest must know what is quarantined."""

    def __init__(self, broker: Broker, ingest: Ingest, trust: TrustStore, answer: Answer, care: Care, *,
                 instance: str, skew_s: float) -> None:
        async def pause(name: str, _: RecoveryCommand, record: Record) -> str:
            return await ingest.pause(name, (record.timestamp_ms, record.offset))

        async def resume(name: str, _: RecoveryCommand, record: Record) -> str:
            return await ingest.resume(name, (record.timestamp_ms, record.offset))

        duties = Duties(TARGET, {
            recovery_pb2.RECOVERY_ACTION_QUARANTINE: _quarantine(ingest, True),
            recovery_pb2.RECOVERY_ACTION_RESTORE: _quarantine(ingest, False),
            recovery_pb2.RECOVERY_ACTION_PAUSE: pause,
            recovery_pb2.RECOVERY_ACTION_RESUME: resume}, errors.answer)
        super().__init__(broker, Admission(trust, timedelta(seconds=skew_s)), answer, care, (duties,), instance)


def _quarantine(ingest: Ingest, quarantined: bool) -> Verb:
    """Whether the source or field is quarantined after the command."""
    async def decide(name: str, command: RecoveryCommand, record: Record) -> str:
        at = record.timestamp_ms, record.offset
        source, field = command.arguments.get("source", ""), command.arguments.get("field", "")
        if source and field:
            raise Refused("the command names a source and a field", field="arguments", remedy="give one of them")
        if field:
            return await ingest.quarantine_field(name, field, quarantined, at, command.incident_id)
        return await ingest.quarantine(name, source, quarantined, at)
    return decide
