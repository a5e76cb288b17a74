"""Heartbeats and announcements of processes: which topics they come by, and which verb takes them."""

from lepton.bus.care import Care
from lepton.bus.consumer import Message
from lepton.bus.records import Broker, Record
from lepton.bus.table import Table
from lepton.contracts import codec, topics
from lepton.contracts.pb.telemetry_pb2 import Instance, Telemetry
from lepton.contracts.topics import Topic
from services.watchdog.edge.feeds import Source
from services.watchdog.flow.observing import Observing
from services.watchdog.flow.probing import Probing


def source(observing: Observing, probing: Probing) -> dict[str, Source]:
    """Only what is said from now on: an old heartbeat proves nothing."""

    def take(message: Message) -> None:
        if isinstance(message.payload, Telemetry):
            observing.heartbeat(message.payload)
            probing.heard(message.payload.instance)

    return {topics.name(Topic.TELEMETRY): Source(take)}


def instances(broker: Broker, observing: Observing, probing: Probing, care: Care, client_id: str) -> Table[Instance]:
    """`lepton-instances`: who is expected to be alive, also those that died while nobody watched."""

    async def changed(name: str, instance: Instance | None) -> None:
        observing.instance(name, instance)
        probing.announced(name, instance)

    return Table(broker, topics.name(Topic.INSTANCES), _instance, client_id=f"{client_id}-instances", care=care,
                 on_change=changed)


def _instance(record: Record) -> Instance:
    return codec.decode_as(Topic.INSTANCES, Instance, record.value or b"")
