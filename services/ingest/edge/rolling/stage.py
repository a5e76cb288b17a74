"""When the Faust worker that rolls summaries up begins, is replaced and ends; and whether it moves."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from lepton.bus.care import Care
from lepton.bus.letters.refusing import DeadLetters, LineStopped
from lepton.bus.producer import Producer
from lepton.bus.records import Broker, Place, Record
from lepton.contracts import topics
from lepton.contracts.topics import Topic
from lepton.errors import Invalid, LeptonError, Unavailable
from lepton.runtime.loops import pause
from services.ingest.edge.rolling.worker import GROUP, Connection, Refuse, Worker

LOOK_EVERY_S = 1.0
TOPICS_EVERY_S = 5.0
AGAIN_S = 2.0
QUIET_S = 20.0
"""Summaries that wait this long while nothing is committed mean that the consumer has gone quiet, as Faust's may."""

MakeWorker = Callable[[Connection, tuple[str, ...], Refuse, Care], Worker]

log = logging.getLogger(__name__)


class Followed(Protocol):
    @property
    def generations(self) -> Mapping[str, int]:
        """Generation by name of the pipelines there is work for."""


@dataclass(frozen=True, slots=True)
class Rollups:
    """How roll-ups are written."""

    connection: Connection
    every_s: float
    """Seconds between two writes of what changed."""


class RollUp:
    """A loop for the service. Topics are named one by one: a pattern receives nothing, in silence."""

    def __init__(self, told: Rollups, broker: Broker, producer: Producer, followed: Followed,
                 dead_letters: DeadLetters, care: Care, worker: MakeWorker = Worker) -> None:
        self._told = told
        self._broker = broker
        self._producer = producer
        self._followed = followed
        self._dead_letters = dead_letters
        self._care = care
        self._worker = worker
        self._moved_at = 0.0
        self._committed: Mapping[Place, int] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`. An outcome begins a new worker; a bug in the stage is raised and ends the process."""
        while not stop.is_set():
            try:
                await self._once(stop)
            except LineStopped as error:
                self._care.fail("line_stopped", str(error), error.place or "")
                await stop.wait()
            except LeptonError as error:
                self._care.report("rollups_wait", str(error), error.place or "")
                await pause(stop, AGAIN_S, self._care.clock)

    async def _once(self, stop: asyncio.Event) -> None:
        names = await self._topics()
        if not names:
            self._care.beat()
            await pause(stop, TOPICS_EVERY_S, self._care.clock)
            return
        log.info("rolling up %s", ", ".join(names))
        worker = self._worker(self._told.connection, names, self._refuse, self._care)
        try:
            await worker.start()
            await self._attend(worker, names, stop)
        finally:
            await worker.stop()

    async def _attend(self, worker: Worker, names: tuple[str, ...], stop: asyncio.Event) -> None:
        """Returns when `stop` is set or other topics are to be read. What was merged is written last."""
        clock = self._care.clock
        self._moved_at = write_at = look_at = clock.monotonic()
        while not await pause(stop, LOOK_EVERY_S, clock):
            worker.look()
            now = clock.monotonic()
            if now >= write_at + self._told.every_s:
                write_at = now
                await worker.write()
            if now >= look_at + TOPICS_EVERY_S:
                look_at = now
                await self._watch(worker)
                if await self._topics() != names:
                    break
        await worker.write()

    async def _watch(self, worker: Worker) -> None:
        """Beats when offsets were committed or none waits. Raises Unavailable when the worker has gone quiet."""
        now = self._care.clock.monotonic()
        held = worker.held()
        ends = await worker.ends(held) if held else {}
        committed = await self._broker.group_offsets(self._told.connection.group)
        waits = any(end > committed.get(place, 0) for place, end in ends.items())
        if not waits or committed != self._committed:
            self._committed, self._moved_at = committed, now
            self._care.beat()
        elif now - self._moved_at > QUIET_S:
            raise Unavailable(f"summaries wait, and none was taken for {now - self._moved_at:.0f} s",
                              place=self._told.connection.table)

    async def _topics(self) -> tuple[str, ...]:
        """Topics of summaries that exist. Raises Missing when the one of roll-ups does not."""
        wanted = [topics.name(Topic.QUALITY, name, generation)
                  for name, generation in sorted(self._followed.generations.items())]
        if not wanted:
            return ()
        found = await self._broker.describe_topics([*wanted, self._told.connection.table])
        if self._told.connection.table not in found:
            raise Unavailable("there is no topic for roll-ups", place=self._told.connection.table,
                              remedy="python -m deploy.topics create")
        return tuple(name for name in wanted if name in found)

    async def _refuse(self, record: Record, error: Invalid) -> None:
        """The letter is durable before the event counts as done. Raises LineStopped past the topic's limit."""
        await self._producer.send_all([self._dead_letters.letter(record, error)])


__all__ = ["GROUP", "Connection", "RollUp", "Rollups"]
