"""The features topics in, a second time: the newest row of each entity, for requests that name it.

Every replica reads all partitions, since a request reaches any of them. Nothing is committed: what a process knew is
gone with it, and the next one reads what the topic keeps, as far back as a row may count.
"""

import asyncio
from collections.abc import Callable

from lepton.bus.care import Care
from lepton.bus.records import Broker, Place, Reader
from lepton.clock import Clock
from lepton.contracts import names, pipeline, topics
from lepton.contracts.modelling.serving import Remembered
from lepton.contracts.pb.pipelines_pb2 import PipelineState
from lepton.contracts.topics import Topic
from lepton.errors import Invalid, LeptonError
from lepton.runtime.loops import Loop, LoopBody, pause
from services.predictor.flow.entities import Entities

MAX_RECORDS = 64
POLL_S = 0.25
AGAIN_S = 2.0


class EntityFeeds:
    """Begins, ends and begins anew a loop with each Pipeline that wants it. `client_id` is this instance's name."""

    def __init__(self, broker: Broker, client_id: str, entities: Entities, care: Care,
                 spawn: Callable[[str, LoopBody], Loop]) -> None:
        self._broker = broker
        self._client_id = client_id
        self._entities = entities
        self._care = care
        self._spawn = spawn
        self._loops: dict[str, tuple[int, Remembered, Loop]] = {}
        if care.telemetry is not None:
            care.telemetry.gauge(names.ENTITIES, entities.counts, "Entities whose newest row is remembered")

    async def changed(self, name: str, state: PipelineState | None) -> None:
        """Follow one change of a Pipeline."""
        wanted, generation = Remembered(), 0
        if state is not None and not state.deleted:
            wanted, generation = pipeline.from_json(state.spec_json).serve.entities, state.generation
        running = self._loops.get(name)
        if running is not None and running[:2] == (generation, wanted):
            return
        if running is not None:
            del self._loops[name]
            await running[2].stop()
            self._entities.forget(name)
        if wanted.remember:
            self._entities.remember(name, wanted.remember, wanted.max_age_s)
            loop = self._spawn(f"entities of {name}", self._body(name, generation, wanted))
            self._loops[name] = generation, wanted, loop

    def _body(self, name: str, generation: int, wanted: Remembered) -> LoopBody:
        clock = self._care.clock

        async def run(stop: asyncio.Event) -> None:
            while not stop.is_set():
                try:
                    await self._read(name, generation, clock.now().timestamp() - wanted.max_age_s, stop)
                except LeptonError as error:
                    # What is known stays known; rows heard twice change nothing.
                    self._care.report("entities_unheard", str(error), name)
                    await pause(stop, AGAIN_S, clock)

        return run

    async def _read(self, name: str, generation: int, since_s: float, stop: asyncio.Event) -> None:
        topic = topics.name(Topic.FEATURES, name, generation)
        reader = self._broker.reader([topic], group=None, client_id=f"{self._client_id}-entities-{name}")
        await reader.start()
        try:
            ends = dict(await reader.end_offsets(sorted(reader.assignment())))
            while not stop.is_set():
                await self._hear(name, reader, since_s, self._care.clock)
                if ends and _passed(reader, ends):
                    self._entities.caught_up(name)
                    ends.clear()
                elif not ends:
                    self._entities.caught_up(name)
        finally:
            await reader.stop()

    async def _hear(self, name: str, reader: Reader, since_s: float, clock: Clock) -> None:
        # Brings Arrow with it, which a process without remembered entities is spared.
        from lepton.contracts import features

        found = await reader.poll(max_records=MAX_RECORDS, timeout_s=POLL_S)
        for place in sorted(found):
            for record in found[place]:
                if record.timestamp_ms < since_s * 1000:
                    # Written before any row in it could count.
                    continue
                try:
                    self._entities.heard(name, features.decode_batch(record.value or b""))
                except Invalid:
                    # A dead letter already: the stage that scores reads the same.
                    continue
                # Requests are answered between two records.
                await clock.sleep(0)


def _passed(reader: Reader, ends: dict[Place, int]) -> bool:
    return all(reader.position(place) >= end for place, end in ends.items())
