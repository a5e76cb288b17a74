"""Everything ingest is made of, in start order."""

import gc
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

from lepton.bus import kafka
from lepton.bus.calls import counted as bus_calls
from lepton.bus.care import Care
from lepton.bus.consumer import Consumer, Subscription
from lepton.bus.letters.refusing import DeadLetters, limit_of
from lepton.bus.presence import Connection, announce
from lepton.bus.producer import Producer
from lepton.bus.records import Broker
from lepton.contracts import names, topics
from lepton.contracts.admission import Admission
from lepton.contracts.pb.recovery_pb2 import RecoveryResult
from lepton.contracts.signing import TrustStore
from lepton.contracts.topics import Topic
from lepton.native.choice import use
from lepton.runtime import tracing
from lepton.runtime.service import Service, Stage
from lepton.runtime.settings import secret_of
from lepton.runtime.telemetry import Telemetry
from lepton.store.calls import counted as store_calls
from lepton.store.datasets.jobs import DataJobs
from lepton.store.documents import DocumentDatabase
from lepton.store.incidents import Lease
from lepton.store.mongo import Database
from lepton.store.pipelines import SourceBoard
from services.ingest.edge.announced import AnnouncedModels, AnnouncedPipelines
from services.ingest.edge.data import GROUP, DataCommands
from services.ingest.edge.line import Line, Pace, Surroundings, open_line
from services.ingest.edge.recovery import RecoveryCommands
from services.ingest.edge.replaying import GROUP as REPLAY_GROUP
from services.ingest.edge.replaying import ReplayCommands
from services.ingest.edge.rolling.stage import Connection as RollupConnection
from services.ingest.edge.rolling.stage import RollUp, Rollups
from services.ingest.edge.segments import Bulk
from services.ingest.edge.sources.log import roots_of
from services.ingest.edge.sources.opening import opener
from services.ingest.flow.accepting import Accepting, ContinueTrace
from services.ingest.flow.ingest import Ingest
from services.ingest.flow.keeping import Keeping
from services.ingest.flow.pulling.batch import Rejection
from services.ingest.flow.pulling.pull import CountRefused, Workplace
from services.ingest.flow.pulling.sources import Sources
from services.ingest.flow.upkeep.erasing import Erasing
from services.ingest.flow.upkeep.forgetting import Forgetting
from services.ingest.flow.upkeep.replaying import Replaying
from services.ingest.flow.upkeep.retention import Retention
from services.ingest.flow.upkeep.taking import Taking
from services.ingest.flow.upkeep.working import Working
from services.ingest.settings import IngestSettings

FOLLOW_DEADLINE_S = 30.0
# A frozen owner is noticed after ten seconds, a quiet consumer after twenty; then the work begins again.
ROLLUP_DEADLINE_S = 90.0


def build(settings: IngestSettings) -> Service:
    """The service over the real broker and database. Raises LeptonError when the trusted keys cannot be read, or the
    native loops were asked for and are not there."""
    use(settings.loops)
    _collect_rarely()
    broker = kafka.connect(settings.broker_options())
    database = Database.connect(settings.mongo_url.get_secret_value(), settings.mongo_database)
    rollups = Rollups(RollupConnection(settings.broker_options()), settings.rollup_interval_s)
    return assemble(settings, Service("ingest", settings), broker, database,
                    rollups=rollups if settings.rollups else None)


def assemble(settings: IngestSettings, service: Service, broker: Broker, database: DocumentDatabase,
             dead_letters: DeadLetters | None = None, rollups: Rollups | None = None) -> Service:
    """The service over any broker and database; `dead_letters` counts by the topics' own limits unless given.

    `rollups` need a real broker, since Faust brings its own client.
    """
    clock, telemetry = service.clock, service.telemetry
    broker, database = bus_calls.counted(broker, telemetry.calls), store_calls.counted(database, telemetry.calls)
    trust = TrustStore.load(settings.trust_dir)
    producer = Producer(broker, settings.instance)
    pace = Pace(settings.batch_records, settings.summary_interval_s,
                Bulk(settings.segment_rows, settings.segment_interval_s))
    around = Surroundings(settings.instance, pace, clock, service.health, telemetry, broker, producer, service.spawn,
                          dead_letters or DeadLetters("ingest", clock, lambda topic: _limit(ingest, topic)))
    forgetting = Forgetting(database)

    async def line(accepting: Accepting) -> Line:
        return open_line(around, accepting, lambda spec: Keeping(database, spec, forgetting, clock))

    async def answer(result: RecoveryResult) -> None:
        await producer.send(Topic.RECOVERY_RESULTS, result, key=result.command_id)

    def care(what: str) -> Care:
        return Care(clock, service.health.check(what, FOLLOW_DEADLINE_S), telemetry)

    def count_refused(name: str, rejections: Sequence[Rejection]) -> None:
        ingest.count_refused(name, rejections)

    sources = _sources(service, settings, broker, database, around.dead_letters, count_refused)
    ingest = Ingest(line, sources.follow, _continue_trace(telemetry), clock)
    pipelines = AnnouncedPipelines(broker, ingest, care("pipelines"), settings.instance)
    models = AnnouncedModels(broker, ingest, trust, care("models"), settings.instance)
    commands = RecoveryCommands(broker, ingest, trust, answer, care("recovery commands"), instance=settings.instance,
                                skew_s=settings.clock_skew_s)

    service.add(Stage.STORE, "database", database)
    service.add(Stage.STORE, "broker", Connection(broker))
    service.add(Stage.BUS, "producer", producer)
    announce(service, producer, ping=database.ping)
    # What is quarantined and what is outlying is known before the first event is judged.
    service.add(Stage.BUS, "pipelines", pipelines)
    service.add(Stage.BUS, "models", models)
    service.add(Stage.BUS, "recovery commands", commands)
    _look_after_rows(service, settings, broker, Working(
        DataJobs(database, clock), Taking(database, clock), Erasing(database, forgetting, clock),
        Retention(database, lambda: ingest.specs, clock), telemetry, clock))
    service.spawn("follow models", models.run)
    service.spawn("follow recovery commands", commands.run)
    replaying = Replaying(broker, lambda name: ingest.generations.get(name),
                          lambda name: ingest.quarantine_of(name).sources)
    _replay(service, settings, broker, replaying, trust, answer)
    service.spawn("tend sources", sources.run)
    if rollups is not None:
        service.spawn("roll up quality", RollUp(rollups, broker, producer, ingest, around.dead_letters, Care(
            clock, service.health.check("roll up quality", ROLLUP_DEADLINE_S), telemetry)).run)
    # Last: it opens the lines, which are spawned into a service that has started.
    service.spawn("follow pipelines", pipelines.run)
    return service


def _sources(service: Service, settings: IngestSettings, broker: Broker, database: DocumentDatabase,
             letters: DeadLetters, count_refused: CountRefused) -> Sources:
    """What pulls events from elsewhere."""
    open_origin = opener(broker, kafka.connect, secret_of, roots_of(settings.log_roots), settings.http_max_bytes,
                         service.clock)
    at = Workplace(settings.instance, broker, open_origin, letters, service.telemetry, service.health.note,
                   count_refused, service.clock, settings.source_backlog)
    return Sources(at, Lease(database, service.clock, "source_leases"), settings.source_lease_s, SourceBoard(database),
                   lambda name, body: service.spawn(name, body, ends=True))


def _look_after_rows(service: Service, settings: IngestSettings, broker: Broker, working: Working) -> None:
    """Snapshots, erasures and retention of what is stored."""
    consumer = Consumer(
        broker, Subscription([topics.name(Topic.DATA_COMMANDS)], GROUP, f"{settings.instance}-data"),
        DataCommands(working).handle,
        Care(service.clock, service.health.check("data commands", FOLLOW_DEADLINE_S), service.telemetry),
        dead_letters=DeadLetters("ingest", service.clock))
    service.add(Stage.FLOW, "data jobs", _Jobs(working, settings.instance))
    service.spawn("data jobs", lambda stop: working.work(settings.instance, stop))
    service.spawn("retention", lambda stop: working.retain(settings.retention_interval_s, stop))
    service.spawn("data commands", consumer.run)


def _replay(service: Service, settings: IngestSettings, broker: Broker, replaying: Replaying, trust: TrustStore,
            answer: Callable[[RecoveryResult], Awaitable[None]]) -> None:
    """Dead letters sent back by command, by one process for all."""
    commands = ReplayCommands(replaying, Admission(trust, timedelta(seconds=settings.clock_skew_s)), answer,
                              service.clock, settings.instance)
    consumer = Consumer(
        broker, Subscription([topics.name(Topic.RECOVERY_COMMANDS)], REPLAY_GROUP, f"{settings.instance}-replay"),
        commands.handle,
        Care(service.clock, service.health.check("replay commands", FOLLOW_DEADLINE_S), service.telemetry),
        dead_letters=DeadLetters("ingest", service.clock))
    service.spawn("replay commands", consumer.run)


class _Jobs:
    """Jobs this instance held before it was killed are free again at once; so are those it leaves."""

    def __init__(self, working: Working, owner: str) -> None:
        self._working = working
        self._owner = owner

    async def start(self) -> None:
        await self._working.let_go(self._owner)

    async def stop(self) -> None:
        await self._working.let_go(self._owner)


def _limit(ingest: Ingest, topic_name: str) -> int | None:
    """Dead letters a minute a topic allows: of events what their pipeline says, where it says something."""
    located = topics.locate(topic_name)
    own = None
    if located is not None and located.topic is Topic.EVENTS and located.pipeline is not None:
        own = ingest.dead_letter_limit(located.pipeline)
    return own or limit_of(topic_name)


def _continue_trace(telemetry: Telemetry) -> ContinueTrace:
    def continue_trace(parent: str, event_id: str) -> str:
        """A span for one sampled event: child of its trace, linked with the span of its batch."""
        batch = tracing.traceparent()
        with telemetry.span_from(parent, names.SPAN_ACCEPT, links=[batch]) as span:
            span.set_attribute(names.SPAN_EVENT_ID, event_id)
            return tracing.traceparent() or parent

    return continue_trace


def _collect_rarely() -> None:
    """A batch makes tens of thousands of objects that all die with it and form no cycles; with the default threshold
    the collector walks them again and again, which cost a fifth of the throughput when measured."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
