"""Records nobody can read are put aside, and hide none that can be read."""

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from lepton.bus.letters.finding import read_letters
from lepton.bus.letters.letter import Letter
from lepton.bus.records import Outgoing
from lepton.contracts import codec, topics
from lepton.contracts.pb.quality_pb2 import QualitySummary
from lepton.contracts.topics import Topic
from tests.harness.wait import apoll_until
from tests.unit.gateway.house import House

GARBAGE = b"\xff" * 10


@pytest.mark.parametrize("topic", [Topic.PIPELINES, Topic.MODELS, Topic.INSTANCES])
async def test_garbage_on_a_followed_topic_goes_to_its_dead_letters(house: House, topic: Topic) -> None:
    await house.broker.writer("test").send(Outgoing(topics.name(topic), GARBAGE, b"garbage"))

    async def put_aside() -> list[Letter]:
        return await read_letters(house.broker, topics.name(topic))

    (letter,) = await apoll_until(put_aside, "the letter", 5)
    assert (letter.record.value, letter.service, letter.record.key) == (GARBAGE, "gateway", b"garbage")
    assert "do not parse" in letter.reason
    assert (await house.admin.get("/v1/status")).status_code == 200


async def test_garbage_among_summaries_and_results_is_left_out(house: House) -> None:
    await house.apply()
    writer = house.broker.writer("test")
    now = Timestamp(seconds=1)
    summary = QualitySummary(pipeline="shop", instance="ingest", interval_start=now, interval_end=now, accepted=3)
    quality = topics.name(Topic.QUALITY, "shop")
    for value in (codec.encode(Topic.QUALITY, summary), GARBAGE):
        await writer.send(Outgoing(quality, value, b"shop"))
    await writer.send(Outgoing(topics.name(Topic.RECOVERY_RESULTS), GARBAGE, b"garbage"))
    assert [one["accepted"] for one in (await house.admin.get("/v1/pipelines/shop/quality")).json()] == [3]
    assert (await house.admin.get("/v1/recovery")).json() == []
