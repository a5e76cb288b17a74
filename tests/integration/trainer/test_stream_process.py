"""The real trainer learns a stream from the real broker into the real database, and keeps its count through kill -9."""

import json
import signal
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from lepton.bus.records import Outgoing, TopicPlan
from lepton.contracts import codec, features, topics
from lepton.contracts.topics import Topic
from lepton.store.artifacts import Artifacts
from services.trainer.core.weights import unpack
from tests.harness.wait import apoll_until
from tests.integration.trainer.place import Place, exit_code
from tests.unit.trainer.streaming.records import STREAM_SPEC
from tests.unit.trainer.world import rows_of

pytestmark = [pytest.mark.kafka, pytest.mark.mongo, pytest.mark.process]
IDLE_MB = 300


@pytest_asyncio.fixture
async def place(tmp_path: Path, kafka_bootstrap: str, mongo_url: str) -> AsyncIterator[Place]:
    place = Place(f"s{uuid.uuid4().hex[:8]}", tmp_path, kafka_bootstrap, mongo_url)
    # Announced before its topics are there: the trainer waits for them.
    await place.furnish(STREAM_SPEC)
    await place.broker.create_topics([TopicPlan(*plan) for plan in topics.plans(place.name, 1, 2)])
    yield place
    await place.clear()


async def send(place: Place, first: int, count: int, partition: int) -> None:
    """Rows and labels as ingest writes them."""
    table, outcomes = rows_of(place.spec, first, count)
    batch = features.encode_batch(table.combine_chunks().to_batches()[0])
    writer = place.broker.writer(f"test-{place.name}-{first}")
    await writer.start()
    await writer.send(Outgoing(topics.name(Topic.FEATURES, place.name), batch, partition=partition))
    await writer.send_all([Outgoing(topics.name(Topic.OUTCOMES, place.name), codec.encode(Topic.OUTCOMES, one),
                                    partition=partition) for one in outcomes])
    await writer.stop()


async def kept(place: Place, seen: int) -> dict[str, list[int]]:
    """The offsets kept, once as many rows are kept; never more."""
    async def reached() -> dict[str, list[int]] | None:
        document = await place.database.collection("streams").get(place.name)
        if document is None or not document["digest"]:
            return None
        about = unpack(await Artifacts(place.database).get(str(document["digest"])))[1]
        assert about["seen"] <= seen, "a row was counted twice"
        assert about["offsets"] == json.loads(document["offsets"])
        return about["offsets"] if about["seen"] == seen else None

    offsets = await apoll_until(reached, f"{seen} rows kept; the trainer said: {place.said()}", 120, 0.3)
    assert offsets is not None
    return offsets


def pupils(process: psutil.Process) -> list[psutil.Process]:
    return [one for one in process.children(recursive=True) if "stream" in one.cmdline()]


async def test_a_stream_is_learnt_through_kill_9_with_the_same_count(place: Place) -> None:
    await send(place, 0, 40, 0)
    with place.trainer() as process:
        await kept(place, 40)
        assert "torch" not in "".join(one.path for one in process.memory_maps())
        assert process.memory_info().rss < IDLE_MB * 2**20
        # The learner alone dies, with rows in its hands.
        await send(place, 40, 25, 1)
        (learner,) = pupils(process)
        learner.kill()
        await kept(place, 65)
        # The trainer dies, and its learner with it.
        await send(place, 65, 30, 0)
        process.kill()
        assert await exit_code(process, 10) == -signal.SIGKILL
    await send(place, 95, 10, 1)
    with place.trainer() as process:
        offsets = await kept(place, 105)
        assert offsets == {"features:0": [0, 2], "features:1": [0, 2], "outcomes:0": [0, 70], "outcomes:1": [0, 35]}
        process.send_signal(signal.SIGTERM)
        assert await exit_code(process, 20) == 0, place.said()
