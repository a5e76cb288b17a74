"""The pipelines' topic in: how each wants its requests batched, and the scoring loop each one gets while it exists."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from lepton.bus.care import Care
from lepton.bus.records import Broker, Record
from lepton.bus.table import Table
from lepton.contracts import codec, pipeline, topics
from lepton.contracts.pb import pipelines_pb2
from lepton.contracts.topics import Topic
from lepton.runtime.loops import Loop, LoopBody
from services.predictor.flow.library import Library

Spawn = Callable[[str, LoopBody], Loop]
Scoring = Callable[[str, int, bool], LoopBody]

log = logging.getLogger(__name__)


class Pipelines:
    """`spawn` owns a loop, `scoring` makes the body of one for a pipeline and generation, writing batches or not.

    `generations` is kept here for others to read: the current one of each pipeline that exists.
    """

    def __init__(self, broker: Broker, client_id: str, library: Library, care: Care, spawn: Spawn,
                 scoring: Scoring, generations: dict[str, int]) -> None:
        self._library = library
        self._spawn = spawn
        self._scoring = scoring
        self._generations = generations
        self._batched: dict[str, bool] = {}
        self._loops: dict[str, tuple[tuple[int, bool], Loop]] = {}
        self.also: list[Callable[[str, pipelines_pb2.PipelineState | None], Awaitable[None]]] = []
        """Who else follows each change."""
        self.table: Table[pipelines_pb2.PipelineState] = Table(
            broker, topics.name(Topic.PIPELINES), decode, client_id=f"{client_id}-pipelines", care=care,
            on_change=self.changed)

    async def start(self) -> None:
        """Read the topic to its end, so that models are loaded with their pipelines' settings; nothing is scored yet.

        Raises Unavailable or Missing when the topic cannot be read.
        """
        await self.table.start()
        if not all(state.deleted for state in self.table.values.values()):
            # Before models are loaded: what the process grows by meanwhile counts as theirs.
            await asyncio.to_thread(_bring_arrow)
        for name, state in self.table.values.items():
            self._configure(name, state)

    async def stop(self) -> None:
        await self.table.stop()

    async def changed(self, name: str, state: pipelines_pb2.PipelineState | None) -> None:
        """Follow one change: begin, end or restart its scoring, and batch as it says."""
        if state is not None and not state.deleted:
            await asyncio.to_thread(_bring_arrow)
        self._configure(name, state)
        for follow in self.also:
            await follow(name, state)
        generation = self._generations.get(name)
        running = self._loops.get(name)
        batched = self._batched.get(name, False)
        if running is not None and running[0] == (generation, batched):
            return
        await self._end(name)
        if generation is not None:
            log.info("%s is scored from generation %d, into %s", name, generation, "batches" if batched else "records")
            loop = self._spawn(f"score {name}", self._scoring(name, generation, batched))
            self._loops[name] = ((generation, batched), loop)

    def _configure(self, name: str, state: pipelines_pb2.PipelineState | None) -> None:
        if state is None or state.deleted:
            self._generations.pop(name, None)
            self._batched.pop(name, None)
            self._library.configure(name, None)
            return
        serve = pipeline.from_json(state.spec_json).serve
        self._generations[name], self._batched[name] = state.generation, serve.stream.results == "batches"
        self._library.configure(name, serve)

    async def _end(self, name: str) -> None:
        running = self._loops.pop(name, None)
        if running is not None:
            await running[1].stop()


def _bring_arrow() -> None:
    """Import what reads the rows of streams, on a thread beside: it takes a while, once, and requests go on meanwhile.
    A process without pipelines is spared its 30 MB."""
    from lepton.contracts.arrow import predictions  # noqa: F401 - that it is imported is what is wanted


def decode(record: Record) -> pipelines_pb2.PipelineState:
    """Raises Invalid also for a specification that cannot be read, so that the one before stays."""
    state = codec.decode_as(Topic.PIPELINES, pipelines_pb2.PipelineState, record.value or b"")
    if not state.deleted:
        pipeline.from_json(state.spec_json)
    return state
