"""The actuator's two wires: a command comes in from the bus, its result goes out."""

from deploy.actuator.flow import Actuator
from lepton.bus.consumer import Message
from lepton.bus.producer import Producer
from lepton.contracts.pb.recovery_pb2 import RecoveryCommand
from lepton.contracts.topics import Topic


class Commands:
    """Hands each command that is the actuator's to its flow; the offset is committed once the result is durable."""

    def __init__(self, actuator: Actuator, producer: Producer) -> None:
        self._actuator = actuator
        self._producer = producer

    async def handle(self, message: Message) -> None:
        command = message.payload
        if not isinstance(command, RecoveryCommand) or not self._actuator.concerns(command):
            return
        result = await self._actuator.execute(command)
        await self._producer.send(Topic.RECOVERY_RESULTS, result, key=command.command_id)
