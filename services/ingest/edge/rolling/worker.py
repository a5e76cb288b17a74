"""One life of the Faust app: a fixed list of summary topics in, the table of roll-ups out, until something ends it.

What Faust does by itself is not enough for exact counts, so: events are acknowledged by hand once their roll-ups are
durable; an agent never raises past `_merge` unseen; each roll-up carries the offset it has come to (`core.rollups`).
"""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import faust
from faust.types import TP
from yarl import URL

from lepton.bus.care import Care
from lepton.bus.records import Place, Record
from lepton.contracts import codec, names, topics
from lepton.contracts.pb.quality_pb2 import QualitySummary
from lepton.contracts.topics import Topic
from lepton.errors import Invalid, Unavailable
from lepton.runtime.settings import BrokerOptions
from services.ingest.flow.rolling import Rolling, Taken

GROUP = "ingest-rollups"
SESSION_S = 10.0
# A JoinGroup is answered once the whole group has joined, so a request may take longer than a rebalance.
REBALANCE_S = 15.0
REQUEST_S = 20.0
COMMIT_S = 1.0
START_S = 30.0
STOP_S = 10.0
WRITE_S = 30.0
ASK_S = 10.0

Refuse = Callable[[Record, Invalid], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Connection:
    """What a Faust app is told."""

    options: BrokerOptions
    group: str = GROUP
    table: str = Topic.QUALITY_ROLLUPS.value


class _App(faust.App):
    # Else it would log as a module of ours, which says each of its steps.
    logger = logging.getLogger("faust.app")

    def _create_directories(self) -> None:
        """None: the table lives in memory, and a container's disk may be read-only."""


class _Table(faust.Table[str, bytes]):
    """A table whose changelog is the topic of roll-ups, and which knows what of it is not durable yet.

    Everything lies in partition 0, so no event need be at hand to say where a key belongs.
    """

    logger = logging.getLogger("faust.tables")
    sent: list["asyncio.Future[Any]"]

    def on_key_set(self, key: str, value: bytes) -> None:
        self.sent.append(self.send_changelog(0, key, value))

    def on_key_del(self, key: str) -> None:
        self.sent.append(self.send_changelog(0, key, None, value_serializer="raw"))


class Worker:
    """Started once and stopped once; then another one is made."""

    def __init__(self, connection: Connection, sources: Iterable[str], refuse: Refuse, care: Care) -> None:
        self._refuse = refuse
        self._care = care
        self._sources = tuple(sorted(sources))
        self.app = _app(connection)
        """Faust's own; only the stage that made this worker starts and stops it, through `start` and `stop`."""
        self._table = _table(self.app, connection.table)
        self._changelog = TP(connection.table, 0)
        self._rolling = Rolling(self._table)
        self._taken: list[Any] = []
        self._turn = asyncio.Lock()
        self._failure: BaseException | None = None
        self._looked_at = care.clock.monotonic()
        self.app.on_partitions_revoked.connect(self._revoked)
        self._table.on_recover(self._recovered)
        self._stream: Any = None
        # Raw: what cannot be decoded would be raised inside the agent instead of going to its dead letters.
        source = self.app.topic(*self._sources, key_type=bytes, value_type=bytes, key_serializer="raw",
                                 value_serializer="raw", allow_empty=True)
        self.app.agent(source, name="merge summaries")(self._merge)

    async def start(self) -> None:
        """Returns once the app runs; partitions come later. Raises Unavailable when the broker cannot be reached."""
        with self._unavailable("the Faust app did not start"):
            async with asyncio.timeout(START_S):
                await self.app.start()

    async def stop(self) -> None:
        """Let go; what was merged and not written is merged again by the next worker."""
        try:
            with self._unavailable("the Faust app did not stop in good order"):
                async with asyncio.timeout(STOP_S):
                    await self.app.stop()
        except Unavailable as error:
            self._care.report("rollup_stop", error.message, self._changelog.topic)
        # Faust's app outlives its stop in its own global places; sketches that do are told of as leaks at exit.
        self._taken.clear()
        self._rolling.forget()

    def look(self) -> None:
        """Called at least every second. Raises what ended this worker.

        Unavailable when another one can go on where it stood; anything else but an outcome is a bug.
        """
        now = self._care.clock.monotonic()
        stood_s, self._looked_at = now - self._looked_at, now
        if self._failure is None and stood_s > SESSION_S:
            # The group has given the partition to another member by now, whose roll-ups must not be overwritten.
            self._failure = Unavailable(f"this process stood still for {stood_s:.0f} s", place=self._changelog.topic)
        if self._failure is not None:
            raise self._failure
        for service in (self.app, self.app.consumer, self.app.producer, *self.app.agents.values()):
            if service.crashed:
                reason = service.crash_reason or "it crashed"
                raise Unavailable(f"Faust: {type(reason).__name__}: {reason}", place=self._changelog.topic)

    async def write(self) -> None:
        """Make durable what was merged, then acknowledge the events it came from. Raises Unavailable."""
        async with self._turn:
            self.look()
            taken, self._taken = self._taken, []
            if not taken:
                return
            self._rolling.write()
            sent, self._table.sent = self._table.sent, []
            try:
                with self._unavailable("roll-ups were not written"):
                    async with asyncio.timeout(WRITE_S):
                        await self.app.producer.flush()
                        await asyncio.gather(*sent)
            except Unavailable as error:
                # What is durable of it is not known, so this worker's memory is not either.
                self._failure = error
                raise
            for stream, event in taken:
                await stream.ack(event)

    @property
    def waiting(self) -> int:
        """Summaries that were taken and are not acknowledged."""
        return len(self._taken)

    def held(self) -> frozenset[Place]:
        """Partitions of summaries this worker was given."""
        return frozenset(Place(tp.topic, tp.partition) for tp in self.app.consumer.assignment()
                         if tp.topic in self._sources)

    async def ends(self, places: Iterable[Place]) -> Mapping[Place, int]:
        """Next offset of each partition, asked of the broker. Raises Unavailable."""
        with self._unavailable("the ends of summaries are not known"):
            async with asyncio.timeout(ASK_S):
                found = await self.app.consumer.highwaters(*(TP(place.topic, place.partition) for place in places))
        return {Place(tp.topic, tp.partition): int(end) for tp, end in found.items()}

    @contextmanager
    def _unavailable(self, what: str) -> Iterator[None]:
        """Errors of Faust and of its client, which may not be named outside the bus, as an outcome."""
        try:
            yield
        except Exception as error:
            raise Unavailable(f"{what}: {type(error).__name__}: {error}", place=self._changelog.topic) from error

    async def _merge(self, stream: Any) -> None:
        """The agent. Faust lets a worker live on without its agent, so its error is kept for `look`."""
        manual = stream.noack()
        try:
            async for event in manual.events():
                async with self._turn:
                    await self._take(manual, event)
        except Exception as error:
            self._failure = error
            raise

    async def _take(self, stream: Any, event: Any) -> None:
        if self._changelog not in self.app.assignor.assigned_actives():
            # While members know different pipelines, topics and table can be given to different ones.
            raise Unavailable("summaries were given to this member without their roll-ups", place=self._changelog.topic)
        message = event.message
        record = Record(message.topic, message.partition, message.offset, message.key, message.value,
                        tuple((name, value) for name, value in _pairs(message.headers)),
                        int((message.timestamp or 0) * 1000))
        at = datetime.fromtimestamp(message.timestamp or 0, UTC)
        try:
            with self._care.span(f"process {record.topic}", [record]):
                summary = codec.decode_as(Topic.QUALITY, QualitySummary, record.value or b"")
                _belongs(summary, record)
                grown = self._rolling.take(summary, Taken(record.topic, record.partition, record.offset, at))
                self._count(summary.pipeline, "merged" if grown else "known")
        except Invalid as error:
            await self._refuse(record, error)
        self._taken.append((stream, event))

    def _count(self, pipeline: str, outcome: str) -> None:
        if self._care.telemetry is not None:
            counter = self._care.telemetry.counter(names.QUALITY_ROLLED, "Summaries merged into roll-ups")
            counter.add(1, {names.PIPELINE: pipeline, "outcome": outcome})

    async def _revoked(self, *_: Any, **__: Any) -> None:
        """What is not durable yet is not acknowledged either, and comes again to whoever gets the partitions."""
        self._taken.clear()
        self._table.sent.clear()

    async def _recovered(self) -> None:
        """The table holds what the topic of roll-ups holds. The gateway, which reads it too, writes dead letters."""
        self._taken.clear()
        for refused in self._rolling.begin():
            self._care.report("rollup_refused", refused.message, refused.place or self._changelog.topic)


def _belongs(summary: QualitySummary, record: Record) -> None:
    """Raises Invalid for a summary of another pipeline than its topic's: its roll-ups would have two owners."""
    located = topics.locate(record.topic)
    if located is None or located.pipeline != summary.pipeline:
        raise Invalid(f"a summary of {summary.pipeline} on {record.topic}", field="pipeline", place=record.place)


def _pairs(headers: Any) -> Iterable[tuple[str, bytes]]:
    return headers.items() if isinstance(headers, Mapping) else headers or ()


def _app(connection: Connection) -> Any:
    options = connection.options
    return _App(
        connection.group, env={}, broker=[URL(f"kafka://{address}") for address in options.bootstrap.split(",")],
        broker_client_id=f"{options.client_id}-rollups", broker_credentials=credentials(options), store="memory://",
        # An event is acknowledged when its roll-up is durable, which a stop or a rebalance must not wait for.
        stream_wait_empty=False, web_enabled=False,
        topic_disable_leader=True, topic_allow_declare=False,
        table_standby_replicas=0, processing_guarantee="at_least_once", consumer_auto_offset_reset="earliest",
        broker_session_timeout=SESSION_S, broker_rebalance_timeout=REBALANCE_S, broker_request_timeout=REQUEST_S,
        broker_commit_interval=COMMIT_S, producer_acks=-1, producer_request_timeout=REQUEST_S,
        producer_max_request_size=topics.spec(Topic.QUALITY_ROLLUPS).max_message_bytes, autodiscover=False)


def _table(app: Any, name: str) -> Any:
    changelog = app.topic(name, key_type=str, value_type=bytes, key_serializer="raw", value_serializer="raw",
                          partitions=1, compacting=True, internal=True, acks=False, allow_empty=True)
    table = _Table(app, name=name, partitions=1, key_type=str, value_type=bytes, changelog_topic=changelog)
    table.sent, table.key_serializer, table.value_serializer = [], "raw", "raw"
    return app.tables.add(table)


def credentials(options: BrokerOptions) -> Any:
    """Faust's form of the bus's security settings; None for plain text."""
    context = ssl.create_default_context(cafile=options.ca_file or None) if options.security.endswith("SSL") else None
    if options.security.startswith("SASL"):
        password = options.password.get_secret_value() if options.password else ""
        return faust.SASLCredentials(username=options.username, password=password, ssl_context=context,
                                     mechanism=options.mechanism)
    return faust.SSLCredentials(context) if context is not None else None
