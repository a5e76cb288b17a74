"""The features and outcomes topics in: a loop for each pipeline whose model learns from its stream.

One trainer at a time reads all partitions of both topics, from the offsets that were kept together with what was learnt
from them; the group's own offsets only show how far it is.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from lepton.bus.care import Care, LagWatch
from lepton.bus.letters.refusing import DeadLetters
from lepton.bus.records import Broker, Place, Reader, Record, Writer
from lepton.clock import Clock
from lepton.contracts import topics
from lepton.contracts.pb.pipelines_pb2 import PipelineState
from lepton.contracts.topics import Topic
from lepton.errors import LeptonError
from lepton.runtime.loops import Loop, LoopBody, pause
from services.trainer.flow.ports import Pipelines
from services.trainer.flow.streams import Fed, StreamLearning, learns_stream

MAX_RECORDS = 500
POLL_S = 0.25
KEEP_EVERY_S = 2.0
"""What was learnt since is learnt again after a kill."""
AGAIN_S = 2.0
"""Until a stream that cannot be learnt, or is learnt elsewhere, is tried again."""

_TOPICS = {"features": Topic.FEATURES, "outcomes": Topic.OUTCOMES}

log = logging.getLogger(__name__)


class Streams:
    """Begins and ends the loops as pipelines are announced. `owner` is this instance."""

    def __init__(self, broker: Broker, announced: Pipelines, learning: Callable[[], StreamLearning],
                 care: Callable[[str], Care], spawn: Callable[[str, LoopBody], Loop], owner: str, clock: Clock) -> None:
        self._broker = broker
        self._announced = announced
        self._learning = learning
        self._care = care
        self._spawn = spawn
        self._owner = owner
        self._clock = clock
        # What each pipeline's loop was begun for; None where there is none to begin.
        self._loops: dict[str, tuple[str, Loop | None]] = {}

    async def watch(self, stop: asyncio.Event, every_s: float) -> None:
        """Until `stop`; the loops are their owner's to end."""
        while not await pause(stop, every_s, self._clock):
            for state in list(self._announced().values()):
                await self._follow(state)

    async def _follow(self, state: PipelineState) -> None:
        wanted = f"{state.generation}:{state.spec_digest}" if learns_stream(state) else ""
        begun, loop = self._loops.get(state.name, (None, None))
        if wanted == begun:
            return
        if loop is not None:
            await loop.stop()
        if wanted:
            self._loops[state.name] = wanted, self._spawn(f"learn the stream of {state.name}", self._body(state))
            return
        try:
            await self._learning().forget(state.name)
            self._loops[state.name] = wanted, None
        except LeptonError as error:
            log.warning("what was learnt of the stream of %s is not removed yet: %s", state.name, error)

    def _body(self, state: PipelineState) -> LoopBody:
        async def run(stop: asyncio.Event) -> None:
            check = f"stream {state.name}"
            care, learning = self._care(check), self._learning()
            dead_letters = DeadLetters("trainer", self._clock)
            while not stop.is_set():
                try:
                    if await _Reading(self._broker, state, learning, care, dead_letters).run(self._owner, stop):
                        continue
                    care.beat()
                except LeptonError as error:
                    care.report("stream_waits", str(error), state.name)
                finally:
                    await _ended(learning)
                await pause(stop, AGAIN_S, self._clock)

        return run


class _Reading:
    """One life of a loop: from the offsets that were kept until something fails or it is asked to stop."""

    def __init__(self, broker: Broker, state: PipelineState, learning: StreamLearning, care: Care,
                 dead_letters: DeadLetters) -> None:
        self._state = state
        self._learning = learning
        self._care = care
        self._dead_letters = dead_letters
        self._names = {topics.name(topic, state.name, state.generation): stream for stream, topic in _TOPICS.items()}
        group = f"trainer.{state.name}" if state.generation == 1 else f"trainer.{state.name}.g{state.generation}"
        self._reader: Reader = broker.reader(list(self._names), group=group, client_id=group, member=False)
        self._writer: Writer = broker.writer(f"{group}-dead-letters")

    async def run(self, owner: str, stop: asyncio.Event) -> bool:
        """False where another trainer learns the stream. Raises what keeps it from going on."""
        offsets = await self._learning.begin(self._state, owner)
        if offsets is None:
            return False
        await self._writer.start()
        try:
            await self._reader.start()
            try:
                await self._seek(offsets)
                await self._loop(stop)
            finally:
                await self._reader.stop()
        finally:
            await self._writer.stop()
        return True

    async def _seek(self, offsets: Mapping[str, Sequence[int]]) -> None:
        places = sorted(self._reader.assignment())
        for place, first in (await self._reader.begin_offsets(places)).items():
            kept = offsets.get(f"{self._names[place.topic]}:{place.partition}")
            if kept is not None and kept[1] < first:
                self._care.report("stream_gap", f"records {kept[1]} to {first} are no longer kept by the topic",
                                  f"{place.topic}/{place.partition}")
            await self._reader.seek(place, first if kept is None else max(first, kept[1]))

    async def _loop(self, stop: asyncio.Event) -> None:
        watch = LagWatch(self._reader, self._care)
        keep_at = self._care.clock.monotonic() + KEEP_EVERY_S
        while not stop.is_set():
            found = await self._reader.poll(max_records=MAX_RECORDS, timeout_s=POLL_S)
            records = [record for place in sorted(found) for record in found[place]]
            if records:
                with self._care.span(f"process {records[0].topic}", records):
                    await self._learn(records)
                watch.moved()
            else:
                await watch.idle()
            if self._care.clock.monotonic() >= keep_at:
                await self._keep()
                keep_at = self._care.clock.monotonic() + KEEP_EVERY_S
        await self._keep()

    async def _learn(self, records: Sequence[Record]) -> None:
        refused = await self._learning.take([
            Fed(self._names[one.topic], one.partition, one.offset, one.value or b"") for one in records])
        for place, error in refused:
            # Before the offsets that pass it are kept.
            await self._writer.send(self._dead_letters.letter(records[place], error))
            self._care.report("refused_record", error.message, records[place].place)

    async def _keep(self) -> None:
        offsets = await self._learning.keep()
        if offsets is None:
            return
        kept = {stream: name for name, stream in self._names.items()}
        await self._reader.commit({
            Place(kept[key.partition(":")[0]], int(key.partition(":")[2])): next_one
            for key, (_, next_one) in offsets.items()})


async def _ended(learning: StreamLearning) -> None:
    try:
        await learning.end()
    except LeptonError as error:
        log.info("the lease of a stream runs out by itself: %s", error)
