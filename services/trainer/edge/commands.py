"""Training commands from the bus: into the run queue, once each, and the offset is free."""

import logging

from lepton.bus.consumer import Message
from lepton.contracts.pb.training_pb2 import TrainingCommand, TrainingKind
from lepton.errors import Invalid
from services.trainer.flow.requests import Requests

log = logging.getLogger(__name__)


class Commands:
    """Never waits for a run: what is queued is durable, so the record can be committed."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests

    async def handle(self, message: Message) -> None:
        command = message.payload
        if not isinstance(command, TrainingCommand):
            raise Invalid("no training command", place=message.record.place)
        if not command.traceparent and message.envelope.traceparent:
            command.traceparent = message.envelope.traceparent
        new = await self._requests.receive(command)
        log.info("command %s (%s of %s) %s", command.command_id, TrainingKind.Name(command.kind), command.model,
                 "taken" if new else "was taken before")
