"""Events and labels in: what is written, what is refused, and what became of them."""

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

import httpx

from lepton.bus.records import Outgoing, partition_for
from lepton.contracts import codec
from lepton.contracts.envelope import Envelope
from lepton.contracts.pb import quality_pb2
from lepton.contracts.topics import Topic
from lepton.store.segments import Segments
from tests.unit.gateway.house import PIPELINE, House, open_house
from tests.unit.gateway.test_access import assert_problem

EVENTS = "/v1/pipelines/shop/events"
LABELS = "/v1/pipelines/shop/labels"


def event(number: int, **members: Any) -> dict[str, Any]:
    return {"event_id": f"e-{number}", "customer": f"c-{number % 3}", "price": 1.5, **members}


async def post(house: House, body: str | bytes, media: str, path: str = EVENTS, **headers: str) -> httpx.Response:
    return await house.admin.post(path, content=body, headers={"content-type": media, **headers})


async def test_one_event_is_written_as_it_was_sent_keyed_by_its_entity(house: House) -> None:
    await house.apply()
    text = '{"event_id": "e-1",   "customer": "c-9", "price": 1.50}'
    response = await post(house, text, "application/json")
    assert response.status_code == 202, response.text
    (record,) = await house.records("lepton-events-shop")
    assert response.json() == {"accepted": 1, "events": [{"event_id": "e-1", "place": record.place}]}
    assert record.value == text.encode()
    assert record.key == b"c-9"
    assert record.partition == partition_for(b"c-9", 4)
    envelope = Envelope.from_headers(record.headers)
    key_id = house.settings.bootstrap_file.read_text().split(".")[0]
    assert (envelope.event_id, envelope.source, envelope.spec_version, envelope.content_type) == (
        "e-1", f"gateway/{key_id}", 1, "application/json")
    assert envelope.occurred_at is not None


MANY = [
    ("application/json", json.dumps([event(n) for n in range(5)])),
    ("application/x-ndjson", "\n".join(json.dumps(event(n)) for n in range(5)) + "\n\n"),
    ("application/json; charset=utf-8", "  " + json.dumps([event(n) for n in range(5)])),
    ("application/cloudevents-batch+json", json.dumps([
        {"specversion": "1.0", "id": f"e-{n}", "source": "till", "type": "sale", "data": event(n)} for n in range(5)])),
]


async def test_many_events_in_one_body_are_answered_in_their_order(house: House) -> None:
    await house.apply()
    for media, body in MANY:
        response = await post(house, body, media)
        assert response.status_code == 202, response.text
        told = response.json()["events"]
        assert [one["event_id"] for one in told] == [f"e-{n}" for n in range(5)]
        ids = {record.place: Envelope.from_headers(record.headers).event_id
               for record in await house.records("lepton-events-shop")}
        assert [ids[one["place"]] for one in told] == [f"e-{n}" for n in range(5)]


async def test_a_structured_cloud_event_stays_whole_and_its_attributes_ride_along(house: House) -> None:
    await house.apply()
    text = json.dumps({"specversion": "1.0", "id": "ce-5", "source": "till/3", "type": "sale",
                       "time": "2026-01-31T12:00:00Z", "data": {"customer": "c-1", "price": 2}})
    assert (await post(house, text, "application/cloudevents+json")).status_code == 202
    (record,) = await house.records("lepton-events-shop")
    envelope = Envelope.from_headers(record.headers)
    assert (record.value, record.key) == (text.encode(), b"c-1")
    assert (envelope.event_id, envelope.source, envelope.event_type, envelope.content_type) == (
        "ce-5", "till/3", "sale", "application/cloudevents+json")
    assert envelope.occurred_at is not None and envelope.occurred_at.isoformat() == "2026-01-31T12:00:00+00:00"


async def test_a_binary_cloud_event_names_itself_in_headers(house: House) -> None:
    await house.apply()
    response = await post(house, '{"customer": "c-1"}', "application/json", **{
        "ce-specversion": "1.0", "ce-id": "ce-6", "ce-source": "till/4", "ce-type": "sale",
        "ce-time": "2026-01-31T12:00:00+01:00"})
    assert response.json()["events"][0]["event_id"] == "ce-6"
    (record,) = await house.records("lepton-events-shop")
    envelope = Envelope.from_headers(record.headers)
    assert (envelope.source, envelope.event_type) == ("till/4", "sale")
    assert envelope.occurred_at is not None and envelope.occurred_at.hour == 11


async def test_a_body_with_one_bad_event_writes_none_and_names_every_problem(house: House) -> None:
    await house.apply()
    bad = [event(0), {"customer": "c"}, {"event_id": True, "customer": "c"}, {"event_id": "x"}, 7,
           event(5, event_id="e" * 300)]
    refused = await post(house, json.dumps(bad), "application/json")
    assert_problem(refused, 422, field="[1].event_id")
    assert [one["path"] for one in refused.json()["problems"]] == [
        "[1].event_id", "[2].event_id", "[3].customer", "[4]", "[5].event_id"]
    lines = await post(house, '{"event_id": "a", "customer": "c"}\n{"event_id": \n', "application/x-ndjson")
    assert [(one["line"], one["path"]) for one in lines.json()["problems"]] == [(2, "(body)")]
    assert await house.records("lepton-events-shop") == []


NO_EVENTS = [
    ("", "application/json", 422), ("[]", "application/json", 422), ("not json", "application/json", 422),
    ("[1, 2", "application/json", 422), ("{}", "text/csv", 415), ("<a/>", "application/xml", 415),
    ('{"specversion": "0.3", "id": "1", "source": "s", "type": "t", "data": {}}', "application/cloudevents+json", 422),
    ('{"specversion": "1.0", "id": "1", "source": "s", "type": "t"}', "application/cloudevents+json", 422),
    ('{"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data": [1]}', "application/cloudevents+json", 422),
    ('{"specversion": "1.0", "id": "1", "source": "s", "type": "t", "time": "noon", "data": {"customer": "c"}}',
     "application/cloudevents+json", 422),
    ('{"event_id": "a\\u0007b", "customer": "c"}', "application/json", 422),
    ('{"specversion": "1.0", "id": 5, "source": "s", "type": "t", "data": {}}', "application/cloudevents+json", 422),
    ("[" * 3000, "application/json", 422), ('{"event_id": ' + "[" * 5000, "application/json", 422),
]


async def test_what_is_no_event_is_refused_with_a_reason(house: House) -> None:
    await house.apply()
    for body, media, status in NO_EVENTS:
        assert_problem(await post(house, body, media), status)
    late = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "s", "ce-type": "t", "ce-time": "2026-01-31T12:00:00"}
    assert_problem(await post(house, '{"customer": "c"}', "application/json", **late), 422, field="ce-time")
    assert await house.records("lepton-events-shop") == []


async def test_a_number_can_name_an_event_and_fields_are_left_to_ingest(house: House) -> None:
    await house.apply()
    body = '{"event_id": 17, "customer": 4, "price": "dear", "unknown": []}'
    assert (await post(house, body, "application/json")).json()["events"][0]["event_id"] == "17"
    (record,) = await house.records("lepton-events-shop")
    assert (record.key, record.value) == (b"4", body.encode())


async def test_labels_are_keyed_by_their_event(house: House) -> None:
    await house.apply()
    body = json.dumps([{"event_id": "e-1", "entity": "c-1", "label": True}, {"event_id": "e-2", "label": False}])
    assert (await post(house, body, "application/json", LABELS)).status_code == 202
    records = await house.records("lepton-labels-shop")
    assert sorted(record.key or b"" for record in records) == [b"e-1", b"e-2"]
    assert_problem(await post(house, '{"event_id": "e-1", "label": null}', "application/json", LABELS), 422,
                   field="label")
    assert_problem(await post(house, '{"label": true}', "application/json", LABELS), 422, field="event_id")


async def test_a_pipeline_without_a_label_takes_none(house: House) -> None:
    await house.apply(PIPELINE[:PIPELINE.index("  label:")])
    refused = await post(house, '{"event_id": "e-1", "label": true}', "application/json", LABELS)
    assert_problem(refused, 422, field="events.label")


async def test_a_new_generation_takes_events_on_its_own_topics(house: House) -> None:
    await house.apply()
    await house.apply(PIPELINE.replace("partitions: 4", "partitions: 2"), new_generation=True)
    written = (await post(house, json.dumps(event(1)), "application/json")).json()["events"][0]["place"]
    assert written.startswith("lepton-events-shop-g2/")


async def test_a_body_past_the_limit_is_refused_before_it_is_read_whole(tmp_path: Path) -> None:
    async with open_house(tmp_path, max_body_bytes=2048) as house:
        await house.apply()
        assert_problem(await post(house, b"x" * 2049, "application/json"), 413, field="body")
        reader, writer = await asyncio.open_connection(*house.address.split(":"))
        head = f"POST {EVENTS} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n" \
               f"authorization: {house.admin.headers['authorization']}\r\n\r\n"
        writer.write(head.encode() + b"1000\r\n" + b"x" * 4096 + b"\r\n")
        answered = await asyncio.wait_for(reader.read(), 5)
        assert answered.startswith(b"HTTP/1.1 413 "), "the rest of the body was waited for"
        writer.close()
        wide = {"rows": [{"colour": "x" * 3000}]}
        assert_problem(await house.admin.post("/v1/models/shop/predict", json=wide), 413)


async def test_rows_count_what_is_stored(house: House) -> None:
    await house.apply()
    segments = Segments(house.database)
    for stream, rows in (("features", 30), ("outcomes", 20)):
        data = stream.encode()
        await segments.append(stream, "shop", 1, 2, 0, rows, rows, data, hashlib.sha256(data).hexdigest())
    said = (await house.admin.get("/v1/pipelines/shop/rows")).json()
    assert (said["accepted"], said["outcomes"]) == (30, 20)
    assert said["partitions"] == [{"partition": 2, "rows": 30, "next_offset": 30}]


async def test_quality_and_dead_letters_are_shown_newest_first(house: House) -> None:
    await house.apply()
    writer = house.broker.writer("test")
    for number in range(3):
        summary = quality_pb2.QualitySummary(pipeline="shop", instance="ingest", spec_version=1, accepted=number)
        summary.interval_start.FromSeconds(1_769_860_000 + number)
        summary.interval_end.FromSeconds(1_769_860_002 + number)
        await writer.send(Outgoing("lepton-quality-shop", codec.encode(Topic.QUALITY, summary), b"shop"))
        await writer.send(Outgoing("lepton-events-shop-dead-letters", f'{{"n": {number}}}'.encode(), b"c", (
            ("ce_id", f"e-{number}".encode()), ("lepton-dead-reason", b"wrong type"), ("lepton-dead-field", b"price"),
            ("lepton-dead-place", f"lepton-events-shop/1@{number}".encode()), ("lepton-dead-service", b"ingest"))))
    quality = (await house.admin.get("/v1/pipelines/shop/quality", params={"limit": 2})).json()
    assert [one["accepted"] for one in quality] == [2, 1]
    letters = (await house.admin.get("/v1/pipelines/shop/dead-letters", params={"limit": 2})).json()
    assert [one["event_id"] for one in letters] == ["e-2", "e-1"]
    assert letters[0] | {"at": None} == {
        "letter": "events/0/2", "place": "lepton-events-shop/1@2", "reason": "wrong type", "code": "", "field": "price",
        "attempts": 1, "at": None, "service": "ingest", "source": "", "row": None, "replayed": False,
        "discarded": False, "event_id": "e-2", "text": '{"n": 2}'}
    assert_problem(await house.admin.get("/v1/pipelines/shop/quality", params={"limit": 0}), 422, field="limit")


async def test_a_request_keeps_its_id_and_its_trace_reaches_the_log(house: House) -> None:
    await house.apply()
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    response = await post(house, json.dumps(event(1)), "application/json", **{
        "x-request-id": "mine-1", "traceparent": parent})
    assert response.headers["x-request-id"] == "mine-1"
    assert response.headers["traceparent"] == parent, "without an exporter the caller's span stays the parent"
    (record,) = await house.records("lepton-events-shop")
    assert Envelope.from_headers(record.headers).traceparent == parent
    assert len((await house.admin.get("/v1/models")).headers["x-request-id"]) == 16
