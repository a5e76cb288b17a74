"""How a process is present on the bus: the broker it needs, the topics it expects, and what it says of itself there."""

from collections.abc import Iterable

from lepton.bus.producer import Producer, outgoing
from lepton.bus.reach import Ping, measure
from lepton.bus.records import Broker
from lepton.contracts import topics
from lepton.contracts.pb import telemetry_pb2
from lepton.contracts.topics import Topic
from lepton.errors import Missing
from lepton.runtime.pulse import Describe
from lepton.runtime.service import Service, Stage


class Connection:
    """The broker as a resource of stage STORE: starts once it answers and has `expected`, closes it at the end.

    Raises Unavailable when it cannot be reached, Missing when a topic is absent: nobody else would create it.
    """

    def __init__(self, broker: Broker, expected: Iterable[Topic] | None = None) -> None:
        """`expected` None: every topic of the platform, dead letters included."""
        self._broker = broker
        self._expected = [name for name, *_ in topics.plans()] if expected is None else [
            topics.name(topic) for topic in expected]

    async def start(self) -> None:
        await self._broker.ping()
        present = await self._broker.describe_topics(self._expected)
        absent = sorted(set(self._expected) - set(present))
        if absent:
            raise Missing(f"topics are absent from the broker: {', '.join(absent)}",
                          remedy="create them with `python -m deploy.topics create`")

    async def stop(self) -> None:
        await self._broker.close()


def no_door(_: telemetry_pb2.Instance) -> None:
    """For a process that serves nobody: its admin address is filled in already."""


def announce(service: Service, producer: Producer, describe: Describe = no_door, ping: Ping | None = None) -> None:
    """Have heartbeats and announcements of this process sent for as long as it lives; add `producer` to it before.

    `describe` fills address, models, load and provider into each announcement. `ping` asks the database of one that has
    any: how long it takes to answer is said in the heartbeats.
    """
    instance = service.settings.instance

    async def send_heartbeat(message: telemetry_pb2.Telemetry) -> None:
        # Written without a span: a trace for every heartbeat would bury those of requests.
        await producer.send_all([outgoing(Topic.TELEMETRY, message, key=instance)])

    async def send_instance(message: telemetry_pb2.Instance | None) -> None:
        await producer.send_all([outgoing(Topic.INSTANCES, message, key=instance)])

    if ping is not None:
        service.spawn("reach the database",
                      lambda stop: measure(stop, ping, service.telemetry, service.clock), Stage.BUS)
    service.spawn("heartbeat", lambda stop: service.telemetry.heartbeat_loop(stop, send_heartbeat), Stage.BUS)
    service.spawn("announce", lambda stop: service.telemetry.announce_loop(stop, send_instance, describe), Stage.BUS)
