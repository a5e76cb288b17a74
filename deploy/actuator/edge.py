"""The actuator's two wires: a command comes in from the bus, its result goes out."""

from typing import Protocol

from lepton.bus.consumer import Message
from lepton.bus.producer import Producer
from lepton.contracts.pb.recovery_pb2 import RecoveryCommand, RecoveryResult
from lepton.contracts.topics import Topic


class Executor(Protocol):
    """Who carries out some of the actuator's commands."""

    def concerns(self, command: RecoveryCommand) -> bool: ...
    async def execute(self, command: RecoveryCommand) -> RecoveryResult: ...


class Commands:
    """Hands each command that is one executor's to it; the offset is committed once the result is durable."""

    def __init__(self, executor: Executor, producer: Producer) -> None:
        self._executor = executor
        self._producer = producer

    async def handle(self, message: Message) -> None:
        command = message.payload
        if not isinstance(command, RecoveryCommand) or not self._executor.concerns(command):
            return
        result = await self._executor.execute(command)
        await self._producer.send(Topic.RECOVERY_RESULTS, result, key=command.command_id)
