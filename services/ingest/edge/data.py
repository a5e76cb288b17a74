"""Commands about stored rows from the bus: into the queue of jobs, once each, and the offset is free."""

import logging

from lepton.bus.consumer import Message
from lepton.contracts.pb.data_pb2 import DataAction, DataCommand
from lepton.errors import Invalid
from services.ingest.flow.upkeep.working import Working

GROUP = "ingest.data-commands"

log = logging.getLogger(__name__)


class DataCommands:
    """Never waits for a job: what is queued is durable, so the record can be committed."""

    def __init__(self, working: Working) -> None:
        self._working = working

    async def handle(self, message: Message) -> None:
        command = message.payload
        if not isinstance(command, DataCommand):
            raise Invalid("no command about data", place=message.record.place)
        if not command.traceparent and message.envelope.traceparent:
            command.traceparent = message.envelope.traceparent
        # Commands of a pipeline share a partition, so their offsets are their order.
        new = await self._working.receive(command, f"{message.record.partition:06d}:{message.record.offset:020d}")
        log.info("command %s (%s of %s) %s", command.command_id, DataAction.Name(command.action), command.pipeline,
                 "taken" if new else "was taken before")
