"""What the gateway is made of, in start order."""

import logging
from collections.abc import Mapping
from typing import TypeVar

from google.protobuf.message import Message

from lepton.bus import kafka
from lepton.bus.calls import counted as bus_calls
from lepton.bus.care import Care
from lepton.bus.commands.audit import Audit
from lepton.bus.commands.auditing import audit_chain
from lepton.bus.commands.draining import Draining
from lepton.bus.letters.aside import Aside
from lepton.bus.letters.refusing import DeadLetters
from lepton.bus.presence import Connection, announce
from lepton.bus.producer import Producer
from lepton.bus.records import Broker
from lepton.bus.table import OnChange, Table
from lepton.clock import Clock, SystemClock
from lepton.contracts import codec, topics
from lepton.contracts.admission import Admission
from lepton.contracts.pb.models_pb2 import ModelState
from lepton.contracts.pb.pipelines_pb2 import PipelineState
from lepton.contracts.pb.quality_pb2 import QualityRollup
from lepton.contracts.pb.recovery_pb2 import RecoveryResult
from lepton.contracts.pb.telemetry_pb2 import Instance
from lepton.contracts.signing import Identity, TrustStore
from lepton.contracts.topics import Topic
from lepton.errors import Missing
from lepton.runtime.doors import HttpDoor
from lepton.runtime.service import Service, Stage
from lepton.store.announce import Announcement, Relay
from lepton.store.artifacts import Artifacts
from lepton.store.calls import counted as store_calls
from lepton.store.calls.graph import Dependencies
from lepton.store.datasets.snapshots import Snapshots
from lepton.store.documents import DocumentDatabase
from lepton.store.files.uploads import Uploads as UploadStore
from lepton.store.incidents import Incidents
from lepton.store.keys import Keys
from lepton.store.mongo import Database
from lepton.store.pipelines import Pipelines as PipelineStore
from lepton.store.pipelines import SourceBoard
from lepton.store.runs import Runs
from lepton.store.segments import Segments
from services.gateway.core.clients import Clients
from services.gateway.core.limits import Limits
from services.gateway.core.routing import Routing
from services.gateway.edge import rest
from services.gateway.edge.obeying.commands import RecoveryCommands
from services.gateway.edge.predictors import Predictors
from services.gateway.flow.access import Access
from services.gateway.flow.audit import AuditLog
from services.gateway.flow.commands import Commands
from services.gateway.flow.data import Data
from services.gateway.flow.datasets.datasets import Datasets
from services.gateway.flow.datasets.orders import Orders
from services.gateway.flow.gateway import Gateway
from services.gateway.flow.intake.alerts import Alerts
from services.gateway.flow.intake.letters import Letters
from services.gateway.flow.intake.parts import Parts
from services.gateway.flow.intake.uploads import Uploads
from services.gateway.flow.intake.writing import RowWriter
from services.gateway.flow.models import Models
from services.gateway.flow.operations import Operations
from services.gateway.flow.pipelines import Catalogue, Pipelines, Pulled
from services.gateway.flow.predictions import Predictions
from services.gateway.flow.quality import Quality
from services.gateway.flow.registry.cards import Cards
from services.gateway.flow.registry.exports import Exports
from services.gateway.flow.registry.imports import Imports
from services.gateway.flow.streams import Streams
from services.gateway.settings import GatewaySettings

Kind = TypeVar("Kind", bound=Message)

# A topic that is followed shows signs of life every second; this much silence makes the gateway not ready.
TABLE_DEADLINE_S = 30.0

log = logging.getLogger(__name__)


def build(settings: GatewaySettings) -> Service:
    """The gateway on Kafka and the database its settings name."""
    clock = SystemClock()
    database = Database.connect(settings.mongo_url.get_secret_value(), settings.mongo_database)
    return assemble(settings, kafka.connect(settings.broker_options(), clock), database, clock)


def assemble(settings: GatewaySettings, broker: Broker, database: DocumentDatabase, clock: Clock) -> Service:
    """The same on any broker and database."""
    service = Service("gateway", settings, clock)
    calls = service.telemetry.calls
    broker, database = bus_calls.counted(broker, calls), store_calls.counted(database, calls)
    service.add(Stage.STORE, "database", database)
    service.add(Stage.STORE, "broker", Connection(broker))
    producer = Producer(broker, settings.instance, service.telemetry)
    service.add(Stage.BUS, "producer", producer)

    def describe(instance: Instance) -> None:
        instance.address = door.address

    announce(service, producer, describe, ping=database.ping)
    aside = _aside(service, broker)
    registry = _follow(service, broker, aside, Topic.MODELS, ModelState)
    announced = _follow(service, broker, aside, Topic.PIPELINES, PipelineState)
    rolled_up = _follow(service, broker, aside, Topic.QUALITY_ROLLUPS, QualityRollup)

    streams = Streams(broker, settings.instance, clock)
    audit = _audit(service, broker, producer)
    store = PipelineStore(database, clock)
    catalogue = Catalogue(announced.values, store)
    relay = _relay(service, store, producer)
    pool = Predictors(service.telemetry)
    service.add(Stage.FLOW, "predictors", pool)
    predictions = _predictions(service, pool, registry.values, clients := Clients(), settings)
    instances = _follow(service, broker, aside, Topic.INSTANCES, Instance, predictions.heard)

    access = Access(Keys(database), _limits(settings), clients, audit, clock, settings.key_cache_s)
    _obey(settings, service, broker, access, producer, Draining(service, broker, lambda: app.under_way()))
    commands = Commands(producer, streams, audit, clock, _operator(settings))
    data = Data(catalogue, producer, Segments(database), service.telemetry, clock)
    gateway = Gateway(
        access=access,
        pipelines=Pipelines(catalogue, store, broker, relay, audit, settings.kafka_replication, streams),
        pulled=Pulled(catalogue, SourceBoard(database), clock),
        data=data,
        datasets=Datasets(catalogue, database),
        orders=Orders(catalogue, producer, data.take_labels, database, audit, clock),
        quality=Quality(catalogue, streams, rolled_up.values),
        uploads=Uploads(catalogue, UploadStore(database, clock), RowWriter(producer, service.telemetry, clock),
                        Parts(settings.state_dir / "uploads"), clock, settings.max_upload_bytes),
        letters=Letters(catalogue, broker, audit),
        audit=AuditLog(broker, settings.instance),
        alerts=Alerts(producer, settings.instance, service.telemetry.boot_id, clock),
        predictions=predictions,
        models=Models(registry.values, Runs(database, clock), Snapshots(database), catalogue, producer, audit, clock),
        cards=Cards(registry.values, Artifacts(database)),
        exports=Exports(registry.values, Artifacts(database)),
        imports=Imports(Artifacts(database)),
        operations=Operations(instances.values, Incidents(database), Dependencies(database), registry.values, catalogue,
                              streams, clock),
        commands=commands,
    )
    service.add(Stage.FLOW, "first key", _FirstKey(access, settings))
    app = rest.create(gateway, service.telemetry, clock, settings.max_body_bytes)
    door = HttpDoor(app, settings.host, settings.port, drain_s=settings.drain_s)
    service.add(Stage.DOOR, "rest", door)
    return service


def _limits(settings: GatewaySettings) -> Limits:
    return Limits(settings.rate_per_s, settings.rate_burst)


def _aside(service: Service, broker: Broker) -> Aside:
    """Every process follows the platform's topics; what none of them can read, this one puts aside."""
    aside = Aside(broker, service.settings.instance, DeadLetters(service.name, service.clock), service.clock)
    service.add(Stage.BUS, "aside", aside)
    service.spawn("aside", aside.run)
    return aside


def _predictions(service: Service, pool: Predictors, registry: Mapping[str, ModelState],
                 clients: Clients, settings: GatewaySettings) -> Predictions:
    predictions = Predictions(Routing(), pool, registry, clients, service.clock, settings.predict_timeout_s)
    service.spawn("tell who asks and who is out of reach",
                  lambda stop: predictions.tell(stop, service.telemetry.measure, service.telemetry.count))
    return predictions


def _obey(settings: GatewaySettings, service: Service, broker: Broker, access: Access, producer: Producer,
          draining: Draining) -> None:
    """Recovery commands; a gateway that trusts nobody serves, and says that it obeys nobody."""
    async def answer(result: RecoveryResult) -> None:
        await producer.send(Topic.RECOVERY_RESULTS, result, key=result.command_id)

    try:
        trust = TrustStore.load(settings.trust_dir)
    except Missing as error:
        log.warning("no recovery command will be obeyed here: %s", error)
        return
    care = Care(service.clock, service.health.check("recovery commands", TABLE_DEADLINE_S), service.telemetry)
    commands = RecoveryCommands(broker, access, draining, Admission(trust), answer, care, settings.instance)
    service.add(Stage.BUS, "recovery commands", commands)
    service.spawn("follow recovery commands", commands.run)


def _audit(service: Service, broker: Broker, producer: Producer) -> Audit:
    audit = audit_chain(broker, producer, service.settings.instance, service.clock)
    service.add(Stage.BUS, "audit chain", audit)
    return audit


def _relay(service: Service, store: PipelineStore, producer: Producer) -> Relay:
    """What announces a pipeline once its document is written."""
    async def publish(announcement: Announcement) -> None:
        await producer.send(Topic.PIPELINES, announcement.value, key=announcement.key)

    relay = Relay([store.announcing], publish, service.clock)
    service.spawn("relay", relay.run)
    return relay


def _operator(settings: GatewaySettings) -> Identity | None:
    """The identity that signs people's recovery commands; without one the gateway serves, and refuses those."""
    try:
        return Identity.load(settings.keys_dir / "operator.json")
    except Missing:
        return None


def _follow(service: Service, broker: Broker, aside: Aside, topic: Topic, kind: type[Kind],
            on_change: OnChange[Kind] | None = None) -> Table[Kind]:
    """A compacted topic: read to its end at start, then followed for as long as the process lives."""
    name = topics.name(topic)
    care = Care(service.clock, service.health.check(name, TABLE_DEADLINE_S), service.telemetry)
    table = Table(broker, name, lambda record: codec.decode_as(topic, kind, record.value or b""),
                  client_id=service.settings.instance, care=care, on_change=on_change, on_invalid=aside.refuse)
    service.add(Stage.BUS, name, table)
    service.spawn(f"follow {name}", table.run)
    return table


class _FirstKey:
    """Makes the first admin key before the door opens."""

    def __init__(self, access: Access, settings: GatewaySettings) -> None:
        self._access = access
        self._file = settings.bootstrap_file

    async def start(self) -> None:
        await self._access.bootstrap(self._file)

    async def stop(self) -> None:
        """Nothing is held."""
