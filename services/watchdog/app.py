"""Everything the watchdog is made of, in start order."""

from collections.abc import Awaitable, Callable
from functools import partial

import msgspec

from lepton.bus import kafka
from lepton.bus.calls import counted as bus_calls
from lepton.bus.care import Care
from lepton.bus.commands.audit import Audit
from lepton.bus.commands.auditing import audit_chain
from lepton.bus.letters.refusing import DeadLetters
from lepton.bus.presence import Connection, announce
from lepton.bus.producer import Producer
from lepton.bus.records import Broker
from lepton.clock import Clock
from lepton.contracts import names
from lepton.contracts.admission import Admission
from lepton.contracts.signing import Identity, TrustStore
from lepton.contracts.topics import Topic
from lepton.runtime.loops import Loop
from lepton.runtime.service import Service, Stage
from lepton.store.announce import Announcement, Relay
from lepton.store.calls import counted as store_calls
from lepton.store.calls.graph import Dependencies
from lepton.store.documents import DocumentDatabase
from lepton.store.incidents import Incidents, Lease
from lepton.store.mongo import Database
from services.watchdog.core.alerting.grouping import Timing
from services.watchdog.core.inputs import Decision, Thresholds
from services.watchdog.core.orders.command import Command
from services.watchdog.core.thresholds.limits import Limits
from services.watchdog.edge import announced, approvals, quality, results, telemetry
from services.watchdog.edge.announced import AnnouncedPipelines
from services.watchdog.edge.doors import who
from services.watchdog.edge.feeds import Feed, Refusals
from services.watchdog.edge.notify import send
from services.watchdog.edge.records import JournalLog
from services.watchdog.edge.recovery import Commands
from services.watchdog.flow.acting import Acting, Voice
from services.watchdog.flow.depending import Depending
from services.watchdog.flow.keeping import Keeping
from services.watchdog.flow.observing import Observing
from services.watchdog.flow.probing import Probing
from services.watchdog.flow.telling import Telling
from services.watchdog.flow.watching import Watching
from services.watchdog.settings import WatchdogSettings

# Remembers how far topics were looked through; nobody is a member of it.
GROUP = "lepton-watchdog"
FOLLOW_DEADLINE_S = 30.0
TICK_DEADLINE_S = 5.0


def build(settings: WatchdogSettings) -> Service:
    """The service over the real broker and database. Raises LeptonError when keys cannot be read."""
    broker = kafka.connect(settings.broker_options())
    database = Database.connect(settings.mongo_url.get_secret_value(), settings.mongo_database)
    return assemble(settings, Service("watchdog", settings), broker, database)


def assemble(settings: WatchdogSettings, service: Service, broker: Broker, database: DocumentDatabase) -> Service:
    """The service over any broker and database."""
    clock, own, calls = service.clock, settings.instance, service.telemetry.calls
    broker, database = bus_calls.counted(broker, calls), store_calls.counted(database, calls)
    trust = TrustStore.load(settings.trust_dir)
    identity = Identity.load(settings.keys_dir / "watchdog.json")
    producer = Producer(broker, own, service.telemetry)
    # What is written all the time has a producer of its own, and no spans: a command may not wait for it.
    scribe = Producer(broker, f"{own}-scribe")
    incidents = Incidents(database)

    def care(what: str) -> Care:
        return Care(clock, service.health.check(what, FOLLOW_DEADLINE_S), service.telemetry)

    relay = _relay(incidents, scribe, clock)
    observing = Observing(own, clock)
    probing = Probing(own, observing, who, clock)
    telling = _telling(settings, service, observing)
    chain = audit_chain(broker, producer, own, clock)
    voice = _voice(service, Commands(producer, identity, own, clock, service.telemetry), chain, relay, telling)
    acting = Acting(incidents, Lease(database, clock), observing, voice, clock, owner=own, lease_s=settings.lease_s)
    watching = Watching(_thresholds(settings), observing, acting.decide, JournalLog(scribe, own).write, clock,
                        settings.tick_s)
    refusals = Refusals(broker, DeadLetters("watchdog", clock), Care(clock, telemetry=service.telemetry), own)
    platform = Feed(broker, {**telemetry.source(observing, probing), **results.source(observing),
                             **approvals.source(observing, Admission(trust), clock)}, refusals, care("platform"),
                    GROUP, f"{own}-platform")

    def follow(pipeline: str, generation: int, batches: bool) -> Loop:
        feed = Feed(broker, quality.source(observing, pipeline, generation, batches=batches), refusals,
                    Care(clock, telemetry=service.telemetry), GROUP, f"{own}-{pipeline}")
        return service.spawn(f"follow {pipeline}", feed.run)

    instances = telemetry.instances(broker, observing, probing, care("instances"), own)
    models = announced.models(broker, observing, trust, care("models"), own)
    pipelines = AnnouncedPipelines(broker, observing, follow, care("pipelines"), own)
    progress = service.health.check("ticks", TICK_DEADLINE_S)

    service.add(Stage.STORE, "database", database)
    service.add(Stage.STORE, "broker", Connection(broker))
    for name, resource in (("producer", producer), ("audit chain", chain), ("scribe", scribe),
                           ("refusals", refusals)):
        service.add(Stage.BUS, name, resource)
    announce(service, scribe, ping=database.ping)
    for name, table in (("instances", instances), ("models", models), ("pipelines", pipelines)):
        service.add(Stage.BUS, name, table)
    service.spawn("announce incidents", relay.run)
    service.spawn("notify", telling.run)
    service.spawn("write journal", watching.write)
    service.spawn("follow instances", instances.run)
    service.spawn("follow models", models.run)
    service.spawn("follow platform", platform.run)
    service.spawn("ask who is late", probing.run)
    service.spawn("tick", lambda stop: watching.tick(stop, progress))
    service.spawn("act", acting.act)
    service.spawn("lead", acting.lead)
    _over_the_database(service, observing, Depending(watching.graph, acting, Dependencies(database), clock), database)
    # Last: it begins a feed for each pipeline, spawned into a service that has started.
    service.spawn("follow pipelines", pipelines.run)
    return service


def _over_the_database(service: Service, observing: Observing, depending: Depending,
                       database: DocumentDatabase) -> None:
    """What goes on beside the watching."""
    def tell(collection: str, gone: int) -> None:
        service.telemetry.measure(names.LOST_DOCUMENTS, gone, collection=collection)

    service.spawn("write down dependencies", depending.run)
    service.spawn("look for what is stored", Keeping(observing.known, database, tell, service.clock).run)


def _thresholds(settings: WatchdogSettings) -> Thresholds:
    return Thresholds(own=settings.instance, silence_s=settings.silence_s, start_grace_s=settings.start_grace_s,
                      unheard_s=settings.unheard_s, verify_s=settings.verify_s, restart_actions=settings.restarts,
                      all_restarts=settings.all_restarts, dry_run=settings.told_only(),
                      maintenance=tuple(one.minutes for one in settings.maintenance),
                      approval=tuple(settings.approval), approval_s=settings.approval_s,
                      replicas={str(one): bounds for one, bounds in settings.replicas.items()},
                      limits=msgspec.convert(settings.limits, Limits, strict=False))


def _relay(incidents: Incidents, scribe: Producer, clock: Clock) -> Relay:
    async def publish(announcement: Announcement) -> None:
        await scribe.send(Topic.INCIDENTS, announcement.value, key=announcement.key)

    return Relay([incidents.announcing], publish, clock)


def ordering(service: Service, commands: Commands) -> Callable[[Command, int], Awaitable[None]]:
    """How what the core ordered goes out, under the number of the lease."""
    async def command(one: Command, fence: int) -> None:
        with service.telemetry.span("heal") as span:
            span.set_attribute(names.SPAN_COMMAND, one.command_id)
            span.set_attribute(names.SPAN_INCIDENT, one.incident_id)
            await commands.send(one.command_id, one.action, one.target, one.arguments, cause=one.cause,
                                incident_id=one.incident_id, valid_s=one.valid_s, fence=fence)
    return command


def _voice(service: Service, commands: Commands, chain: Audit, relay: Relay, telling: Telling) -> Voice:
    reached = service.telemetry.counter(names.INCIDENTS)

    def tell(decision: Decision) -> None:
        incident = decision.incident
        reached.add(1, {"symptom": incident.symptom, "state": incident.state})
        telling.tell(decision)

    return Voice(ordering(service, commands), partial(chain.record, service.settings.instance), relay.kick, tell,
                 telling.standing)


def _telling(settings: WatchdogSettings, service: Service, observing: Observing) -> Telling:
    told = service.telemetry.counter(names.NOTICES)

    def report(outcome: str, scheme: str, why: str) -> None:
        told.add(1, {"outcome": outcome, "scheme": scheme})
        if why:
            service.telemetry.error("notice_not_sent", f"a {scheme} address could not be told ({outcome}): {why}")

    timing = Timing(settings.alert_group_s, settings.alert_repeat_s, settings.alert_rate)
    return Telling(settings.alert_routes(), timing, send, report, observing.named, service.clock)
