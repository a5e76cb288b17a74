"""Every concrete object of the actuator, in the order it starts."""

from datetime import timedelta

from deploy.actuator import units
from deploy.actuator.edge import Commands
from deploy.actuator.flow import Actuator, Limits
from deploy.actuator.memory import Memory
from deploy.actuator.settings import ActuatorSettings
from deploy.supervisor import ProcessManager
from lepton.bus import kafka
from lepton.bus.calls.counted import counted
from lepton.bus.care import Care
from lepton.bus.consumer import Consumer, Subscription
from lepton.bus.letters.refusing import DeadLetters
from lepton.bus.presence import Connection, announce
from lepton.bus.producer import Producer
from lepton.contracts.signing import TrustStore
from lepton.contracts.topics import Topic
from lepton.errors import Unavailable
from lepton.runtime.service import Service, Stage


def build(settings: ActuatorSettings) -> Service:
    """Raises Unavailable when the process manager does not answer: without it nothing can be done here."""
    service = Service("actuator", settings)
    manager = ProcessManager(settings.supervisor_socket)
    if not manager.alive():
        raise Unavailable("the process manager does not answer", field="LEPTON_ACTUATOR_SUPERVISOR_SOCKET",
                          place=str(settings.supervisor_socket), remedy="start the stack with `lepton up`")
    memory = Memory(settings.state_dir / "commands.json")
    memory.load()
    limits = Limits(units.parse(settings.units), settings.start_timeout_s, timedelta(seconds=settings.clock_skew_s))
    actuator = Actuator(settings.instance, manager, TrustStore.load(settings.trust_dir), memory, limits, service.clock)

    broker = counted(kafka.connect(settings.broker_options(), service.clock), service.telemetry.calls)
    producer = Producer(broker, settings.instance, service.telemetry)
    service.add(Stage.STORE, "broker", Connection(broker))
    service.add(Stage.BUS, "producer", producer)
    announce(service, producer)
    progress = service.health.check("commands", deadline_s=60)
    consumer = Consumer(
        broker, Subscription([Topic.RECOVERY_COMMANDS], "actuator", settings.instance),
        Commands(actuator, producer).handle, Care(service.clock, progress, service.telemetry),
        dead_letters=DeadLetters("actuator", service.clock))
    service.spawn("commands", consumer.run)
    return service
