"""Another topic as a source: plain objects and CloudEvents, kept offsets, what retention took, partitions that grow."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from lepton.bus.inside.group import MemoryReader
from lepton.bus.records import Headers, Outgoing, Place, TopicPlan
from lepton.contracts.source_blocks import KafkaSource
from services.ingest.core.pulling.rows import Bad, Row
from services.ingest.core.pulling.texts import record
from services.ingest.edge.sources.kafka import KafkaOrigin
from tests.unit.ingest.house import House, living
from tests.unit.ingest.sources.shop import events, pulled, pulling, standing

FEED = "till-feed"


async def feed(house: House, *values: Any, headers: Headers = (), partitions: int = 3) -> None:
    await house.broker.create_topics([TopicPlan(FEED, partitions, {})])
    writer = house.broker.writer("till")
    await writer.start()
    await writer.send_all([Outgoing(FEED, value if isinstance(value, bytes) else json.dumps(value).encode(),
                                    str(number).encode(), headers) for number, value in enumerate(values)])
    await writer.stop()


def order(number: int) -> dict[str, Any]:
    return {"order": f"o-{number}", "customer": f"c-{number}", "price": 1.0}


async def test_records_come_once_over_a_restart_with_what_their_headers_say(house: House) -> None:
    await feed(house, *(order(number) for number in range(50)), headers=(("ce_time", b"2026-06-01T12:00:00Z"),))
    spec = pulling({"name": "feed", "kind": "kafka", "topic": FEED})
    async with living(house):
        await house.apply(spec)
        await pulled(house, 50)
    await feed(house, *(order(number) for number in range(50, 80)))
    async with living(house):
        await pulled(house, 80)
        found = await standing(house, "feed", state="following", events=80)
    assert found["lag"] == 0
    seen = await events(house)
    assert Counter(one["order"] for one in seen) == Counter(f"o-{number}" for number in range(80))
    assert seen[0]["ce_time"] == "2026-06-01T12:00:00.000000Z"
    assert {one["ce_source"] for one in seen} == {"source/feed"}


async def test_what_is_no_object_is_a_dead_letter_with_partition_and_offset(house: House) -> None:
    await feed(house, b"junk", order(1), {"order": "o-2"}, partitions=1)
    async with living(house):
        await house.apply(pulling({"name": "feed", "kind": "kafka", "topic": FEED}))
        await pulled(house, 1)
        await standing(house, "feed", state="following", events=1, refused=2)
    assert [(one["place"], one["reason"].partition(":")[0]) for one in await house.letters()] == [
        ("source/feed 0/0", "malformed"), ("source/feed 0/2", "missing")]


async def test_records_that_retention_took_before_they_were_read_are_told(
        house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def begins(_: MemoryReader, places: Sequence[Place]) -> Mapping[Place, int]:
        return dict.fromkeys(places, 10)

    await feed(house, *(order(number) for number in range(12)), partitions=1)
    monkeypatch.setattr(MemoryReader, "begin_offsets", begins)
    origin = KafkaOrigin(KafkaSource(name="feed", topic=FEED), "test", lambda: house.broker, owned=False)
    await origin.open({"0": 4})
    found = await origin.read({"0": 4})
    await origin.close()
    assert found.losses == [f"{FEED}/0: 6 offsets from 4 on were deleted before they were read"]
    assert [item.mark for item in found.items] == ["0/10", "0/11"]


CLOUD = {"specversion": "1.0", "id": "e-1", "source": "x", "type": "t", "time": "2026-06-01T12:00:00Z",
         "data": {"order": "o-1"}}


@pytest.mark.parametrize(("value", "headers", "expected"), [
    (b'{"a": 1}', (), ({"a": 1}, None)),
    (b'{"a": 1}', (("ce_id", b"e-7"),), ({"a": 1}, "e-7")),
    (json.dumps(CLOUD).encode(), (("content-type", b"application/cloudevents+json"),), ({"order": "o-1"}, "e-1"))])
def test_objects_and_cloudevents_are_rows(value: bytes, headers: Headers, expected: Any) -> None:
    row = record(value, headers, 1_780_000_000_000, "0/1")
    assert isinstance(row, Row)
    assert (dict(row.values), row.event_id) == expected


@pytest.mark.parametrize(("value", "headers"), [
    (None, ()), (b"", ()), (b"[1]", ()), (b"{" * 100_000, ()), (b'{"a": "\xff"}', ()), (b"{}", (("ce_time", b"soon"),)),
    (b"{}", (("ce_id", b"\xff"),)), (b"{}", (("content-type", b"application/x-protobuf"),)),
    (b"{}", (("content-type", b"application/cloudevents+json"),)), (b"{}", (("ce_specversion", b"0.3"),))])
def test_anything_else_is_set_aside_and_never_raises(value: bytes | None, headers: Headers) -> None:
    assert isinstance(record(value, headers, 1_780_000_000_000, "0/1"), Bad)
