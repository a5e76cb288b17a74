"""How commands leave the watchdog: signed and written to the topic by its own code, with a lease's number."""

from collections.abc import Sequence

from lepton.bus.memory import MemoryBroker
from lepton.bus.producer import Producer
from lepton.bus.records import Broker, TopicPlan
from lepton.clock import Clock, SystemClock
from lepton.contracts import codec, topics
from lepton.contracts.pb.recovery_pb2 import RecoveryCommand
from lepton.contracts.signing import Identity
from lepton.contracts.topics import Topic
from lepton.runtime.service import Service
from services.watchdog.app import ordering
from services.watchdog.core.orders.command import Command
from services.watchdog.edge.recovery import Commands
from services.watchdog.settings import WatchdogSettings
from tests.harness.bus import read_all

FENCE = 7


async def send(broker: Broker, identity: Identity, orders: Sequence[Command], clock: Clock | None = None) -> None:
    """Write them to the broker's topic of commands, in their order."""
    service = Service("watchdog", WatchdogSettings())
    producer = Producer(broker, "watchdog")
    order = ordering(service, Commands(producer, identity, "watchdog", clock or SystemClock(), service.telemetry))
    await producer.start()
    try:
        for one in orders:
            await order(one, FENCE)
    finally:
        await producer.stop()


async def read(identity: Identity, orders: Sequence[Command], clock: Clock) -> list[RecoveryCommand]:
    """The same, as one who reads the topic has them."""
    broker = MemoryBroker()
    await broker.create_topics([TopicPlan(*plan) for plan in topics.plans()])
    await send(broker, identity, orders, clock)
    found = [codec.decode_as(Topic.RECOVERY_COMMANDS, RecoveryCommand, record.value or b"")
             for record in await read_all(broker, topics.name(Topic.RECOVERY_COMMANDS))]
    sent = [one.command_id for one in orders]
    return sorted(found, key=lambda one: sent.index(one.command_id))
