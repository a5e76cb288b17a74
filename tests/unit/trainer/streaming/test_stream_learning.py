"""A pipeline's stream through the trainer: topics in, candidates through the gate, kills and rivals on the way."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lepton.bus.care import Care
from lepton.bus.memory import MemoryBroker
from lepton.bus.records import Outgoing, TopicPlan
from lepton.clock import SystemClock
from lepton.contracts import topics
from lepton.contracts.pb import models_pb2, training_pb2
from lepton.contracts.topics import Topic
from lepton.runtime.loops import Loop, LoopBody
from lepton.store.registry.streams import Streams as StreamStore
from services.trainer.core.streaming.desk import Desk
from services.trainer.edge.pupils import PupilProcess, PupilProcesses
from services.trainer.edge.streams import Streams
from services.trainer.flow.streams import Pupil, StreamLearning
from tests.harness.wait import apoll_until
from tests.unit.trainer.judging.test_cards import opened
from tests.unit.trainer.streaming.records import STREAM_SPEC, labels, rows
from tests.unit.trainer.world import World, state_of

PARTITIONS = 2


class Here:
    """A pupil in this process."""

    def __init__(self) -> None:
        self._desk = Desk(lambda _: None)

    async def ask(self, header: Mapping[str, Any], payload: bytes = b"") -> tuple[dict[str, Any], bytes]:
        return await asyncio.to_thread(self._desk.answer, header, payload)

    async def kill(self) -> None:
        await asyncio.sleep(0)


class Classroom:
    async def launch(self) -> Pupil:
        return Here()


class Processes(PupilProcesses):
    """Real ones, the last of which can be killed."""

    last: PupilProcess | None = None

    async def launch(self) -> PupilProcess:
        self.last = await super().launch()
        return self.last


@dataclass
class School:
    """The trainer's streams over a broker in memory, with real time."""

    world: World
    broker: MemoryBroker
    pupils: Any
    figures: dict[str, float] = field(default_factory=dict)
    failed: list[BaseException | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = StreamStore(self.world.database, self.world.clock)

    def learning(self) -> StreamLearning:
        return StreamLearning(self.world.stores, self.store, self.pupils, self.world.bounds,
                              lambda _, found: self.figures.update(found), self.world.tell, SystemClock())

    @asynccontextmanager
    async def open(self, owner: str = "trainer") -> AsyncIterator[None]:
        stop, loops = asyncio.Event(), []

        def spawn(name: str, body: LoopBody) -> Loop:
            loop = Loop(name, body, ends=False, ended=lambda _, error: self.failed.append(error),
                        drain_left_s=lambda: 20.0)
            loop.begin()
            loops.append(loop)
            return loop

        streams = Streams(self.broker, lambda: self.world.pipelines, self.learning,
                          lambda _: Care(SystemClock()), spawn, owner, SystemClock())
        watching = asyncio.ensure_future(streams.watch(stop, 0.02))
        try:
            yield
        finally:
            stop.set()
            await watching
            for loop in loops:
                await loop.stop()
            assert not self.failed

    async def send(self, first: int, count: int, partition: int = 0, *, rows_too: bool = True) -> None:
        writer = self.broker.writer("ingest")
        await writer.start()
        sent = [*([rows(first, count)] if rows_too else []), *labels(first, count)]
        names = {"features": topics.name(Topic.FEATURES, "tumours"), "outcomes": topics.name(Topic.OUTCOMES, "tumours")}
        await writer.send_all([Outgoing(names[one.stream], one.value, partition=partition) for one in sent])
        await writer.stop()

    async def saw(self, rows: int) -> None:
        async def so_many() -> bool:
            return self.figures.get("rows", 0) >= rows

        await apoll_until(so_many, f"{rows} rows learnt", 60)

    async def offered(self, count: int) -> str:
        """Command id of the candidate, once there are so many runs."""
        async def queued() -> bool:
            return len(await self.world.stores.runs.list("tumours")) >= count

        await apoll_until(queued, f"candidate {count}", 60)
        return (await self.world.stores.runs.list("tumours"))[0].command.command_id

    async def kept(self, rows: int) -> None:
        """Until so many rows are in what outlives the process."""
        async def so_many() -> bool:
            document = await self.world.database.collection("streams").get("tumours")
            if document is None or not document["digest"]:
                return False
            return f'"seen":{rows}' in _about(await self.store.bytes_of(str(document["digest"])))

        await apoll_until(so_many, f"{rows} rows kept", 60)


def _about(state: bytes) -> str:
    from services.trainer.core.weights import unpack

    return str(unpack(state)[1]).replace("'", '"').replace(": ", ":")


@pytest.fixture
async def school(tmp_path: Path) -> School:
    world = World(tmp_path, {"tumours": state_of(STREAM_SPEC)})
    broker = MemoryBroker()
    await broker.create_topics([
        TopicPlan(name, PARTITIONS, {}) for topic in (Topic.FEATURES, Topic.OUTCOMES)
        for name in (topics.name(topic, "tumours"), topics.dead_letter_name(topics.name(topic, "tumours")))])
    return School(world, broker, Classroom())


async def test_rows_of_all_partitions_are_learnt_and_kept_with_their_offsets(school: School) -> None:
    await school.send(0, 30)
    async with school.open():
        await school.send(30, 30, partition=1)
        await school.saw(60)
    await school.kept(60)
    assert school.figures["accuracy"] > school.figures["baseline_accuracy"]
    offsets = await school.broker.group_offsets("trainer.tumours")
    assert {(place.topic, place.partition): one for place, one in offsets.items()} == {
        ("lepton-features-tumours", 0): 1, ("lepton-features-tumours", 1): 1,
        ("lepton-outcomes-tumours", 0): 30, ("lepton-outcomes-tumours", 1): 30}


async def test_a_later_life_goes_on_where_the_last_one_was_kept(school: School) -> None:
    async with school.open():
        await school.send(0, 40)
        await school.saw(40)
    school.figures.clear()
    await school.send(40, 20)
    async with school.open():
        await school.saw(60)
        await school.send(60, 5)
        await school.saw(65)
    assert school.figures["rows"] == 65
    stored = await school.world.stores.artifacts.of_kind("stream:tumours")
    assert len(stored) == 1


async def test_a_killed_process_is_followed_by_one_that_has_the_same_count(school: School) -> None:
    processes = school.pupils = Processes()
    async with school.open():
        await school.send(0, 50)
        await school.kept(50)
        await school.send(50, 30)
        killed = processes.last
        assert killed is not None
        os.kill(killed._process.pid, signal.SIGKILL)
        await school.send(80, 20)
        await school.saw(100)
        assert processes.last is not killed
    await school.kept(100)
    assert school.figures["rows"] == 100


async def test_only_one_trainer_learns_a_stream_and_the_next_has_it_when_the_first_ends(school: School) -> None:
    await school.send(0, 20)
    async with school.open("first"):
        await school.saw(20)
        other = school.learning()
        assert await other.begin(state_of(STREAM_SPEC), "second") is None
    offsets = await other.begin(state_of(STREAM_SPEC), "second")
    assert offsets is not None and offsets["features:0"] == [0, 1]
    await other.end()


async def test_a_record_that_cannot_be_read_is_a_dead_letter(school: School) -> None:
    name = topics.name(Topic.FEATURES, "tumours")
    writer = school.broker.writer("ingest")
    await writer.start()
    await writer.send(Outgoing(name, b"no batch", partition=0))
    async with school.open():
        await school.send(1, 10)
        await school.saw(10)
    reader = school.broker.reader([topics.dead_letter_name(name)], group=None, client_id="test")
    await reader.start()
    found = [one for some in (await reader.poll(max_records=9, timeout_s=5)).values() for one in some]
    assert [one.value for one in found] == [b"no batch"]


async def test_another_course_is_learnt_from_the_beginning_and_none_is_forgotten(school: School) -> None:
    async with school.open():
        await school.send(0, 30)
        await school.saw(30)
        school.figures.clear()
        other = STREAM_SPEC.replace("candidate_rows: 150", "candidate_rows: 150, width: 64")
        school.world.pipelines["tumours"] = state_of(other, 2)
        await school.saw(30)
        school.world.pipelines["tumours"] = state_of(version=3)

        async def forgotten() -> bool:
            return await school.world.database.collection("streams").get("tumours") is None

        await apoll_until(forgotten, "nothing kept", 60)
    assert await school.world.stores.artifacts.of_kind("stream:tumours") == []


async def test_a_candidate_goes_through_the_gate_with_its_offsets_and_prequential_figures(school: School) -> None:
    world = school.world
    async with school.open():
        await school.send(0, 200)
        run = await world.see_through(await school.offered(1))
        assert run.command.reason == "stream"
        assert run.progress.state == training_pb2.RUN_STATE_SUCCEEDED, run.progress
    state = await world.stores.models.state("tumours")
    first = state.versions[0].manifest
    assert state.champion == 1 and first.family == "stream"
    assert first.task == models_pb2.MODEL_TASK_CLASSIFICATION
    assert first.metrics["prequential_accuracy"] > first.metrics["prequential_baseline_accuracy"]
    assert [(one.stream, one.partition, one.first_offset, one.next_offset) for one in first.lineage.ranges] == [
        ("features", 0, 0, 1), ("outcomes", 0, 0, 200)]
    assert first.lineage.train_rows == 200
    assert first.lineage.parent_version == 0
    card = opened(await world.stores.artifacts.get(first.card_sha256))
    text = card["card.md"].decode()
    assert text.startswith("# tumours: stream\n") and "](course.png)" in text and card["course.png"]
    assert "| features | tumours | 1 | 0 | 0 | 1 |" in text and "| outcomes | tumours | 1 | 0 | 0 | 200 |" in text


async def test_the_next_candidate_is_judged_beside_the_champion(school: School) -> None:
    world = school.world

    async with school.open():
        await school.send(0, 200)
        await world.see_through(await school.offered(1))
        await school.send(200, 200)
        await world.see_through(await school.offered(2))
    second = (await world.stores.models.state("tumours")).versions[-1].manifest
    assert second.version == 2 and "accuracy" in second.champion_metrics


