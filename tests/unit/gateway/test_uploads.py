"""Files in pieces: no row is skipped or counted twice, whatever the borders of the pieces; bad rows are set aside."""

import asyncio
import hashlib
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lepton.bus.producer import Producer
from lepton.contracts.envelope import Envelope
from lepton.errors import Unavailable
from tests.unit.gateway.house import PIPELINE, House, open_house
from tests.unit.gateway.test_access import assert_problem

UPLOADS = "/v1/pipelines/shop/uploads"
CSV = b'''\
event_id,Customer,price,colour,remark
e-1,c-1,1.5,red,first
e-2,c-1,12.50,,"two
lines, quoted ""so"""
e-3,c-2,abc,blue,a value ingest refuses
e-4,c-2,3
e-5,,3,red,no entity
,c-3,7,red,no id
'''


def told(data: bytes, name: str = "people.csv", kind: str = "csv", **changes: Any) -> dict[str, Any]:
    return {"name": name, "format": kind, "size": len(data), "sha256": hashlib.sha256(data).hexdigest(), **changes}


async def begin(house: House, data: bytes, **changes: Any) -> dict[str, Any]:
    answer = await house.admin.post(UPLOADS, json=told(data, **changes))
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def send(house: House, upload: dict[str, Any], data: bytes, piece: int = 1 << 20) -> dict[str, Any]:
    """Send from where it stands, `piece` bytes at a time, until it is done."""
    while not upload["done"]:
        at = upload["offset"]
        answer = await house.admin.patch(f"{UPLOADS}/{upload['id']}", params={"offset": at},
                                         content=data[at:at + piece])
        assert answer.status_code == 200, answer.text
        upload = answer.json()
    return upload


async def events(house: House) -> dict[str, dict[str, Any]]:
    """Values of the events topic by event id; every id may be there once only."""
    found: dict[str, dict[str, Any]] = {}
    for record in await house.records("lepton-events-shop"):
        event_id = Envelope.from_headers(record.headers).event_id
        assert event_id is not None and event_id not in found
        found[event_id] = json.loads(record.value or b"")
    return found


@pytest.mark.parametrize("piece", [3, 64, 1 << 20])
async def test_rows_of_a_csv_are_the_same_wherever_its_pieces_end(house: House, piece: int) -> None:
    await house.apply()
    upload = await send(house, await begin(house, CSV), CSV, piece)
    assert (upload["rows"], upload["refused"], upload["offset"], upload["ignored_columns"]) == (
        6, 2, len(CSV), ["remark"])
    found = await events(house)
    assert found == {
        "e-1": {"event_id": "e-1", "customer": "c-1", "price": 1.5, "colour": "red"},
        "e-2": {"event_id": "e-2", "customer": "c-1", "price": 12.5},
        "e-3": {"event_id": "e-3", "customer": "c-2", "price": "abc", "colour": "blue"},
        f"{upload['id']}-6": {"customer": "c-3", "price": 7, "colour": "red"}}
    record = next(one for one in await house.records("lepton-events-shop") if one.key == b"c-3")
    assert dict(record.headers)["lepton-row"] == b"people.csv:6"
    assert dict(record.headers)["ce_source"] == b"file/people.csv"


async def test_rows_that_can_be_no_event_are_dead_letters_that_name_file_and_row(house: House) -> None:
    await house.apply()
    await send(house, await begin(house, CSV), CSV)
    letters = (await house.admin.get("/v1/pipelines/shop/dead-letters")).json()
    assert {(one["place"], one["row"], one["reason"], one["field"], one["source"]) for one in letters} == {
        ("people.csv:4", "people.csv:4", "malformed: 3 values for 5 columns", None, "file/people.csv"),
        ("people.csv:5", "people.csv:5", "missing: is missing", "customer", "file/people.csv")}
    assert {one["text"] for one in letters} == {"e-4,c-2,3", "e-5,,3,red,no entity"}


async def test_json_lines_go_on_as_they_are(house: House) -> None:
    await house.apply()
    lines = [b'{"event_id": "e-1", "customer":  "c-1", "price": 1.50}', b"", b"no json", b"[1]",
             b'{"customer": 7, "price": 2}', b'{"event_id": "e-2", "customer": "c-1", "bought": true}']
    data = b"\xef\xbb\xbf" + b"\r\n".join(lines)
    upload = await send(house, await begin(house, data, name="p.jsonl", kind="jsonl"), data, 11)
    assert (upload["rows"], upload["refused"]) == (5, 2)
    values = {record.value for record in await house.records("lepton-events-shop")}
    assert values == {lines[0], lines[4], lines[5]}
    (label,) = await house.records("lepton-labels-shop")
    assert json.loads(label.value or b"") == {"event_id": "e-2", "entity": "c-1", "label": True}


async def test_a_parquet_file_is_written_row_group_by_row_group(house: House) -> None:
    await house.apply()
    rows = [{"customer": f"c-{n % 5}", "price": n / 2 if n % 7 else None, "colour": "red", "Other": n}
            for n in range(2500)]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink, row_group_size=700)
    data = sink.getvalue()
    upload = await send(house, await begin(house, data, name="p.parquet", kind="parquet"), data, 9000)
    assert (upload["rows"], upload["total_rows"], upload["refused"], upload["ignored_columns"]) == (
        2500, 2500, 0, ["Other"])
    found = await events(house)
    assert len(found) == 2500
    assert found[f"{upload['id']}-9"] == {"customer": "c-3", "price": 4.0, "colour": "red"}
    assert "price" not in found[f"{upload['id']}-8"]
    assert not list((house.settings.state_dir / "uploads").glob("*"))


async def test_rows_of_parquet_that_can_be_no_event_are_dead_letters_and_the_file_ends(house: House) -> None:
    await house.apply()
    table = pa.table({"customer": ["c-1", "c-2", "c-3", "c-4"], "price": [1.0, 2.0, 3.0, 4.0],
                      "occurred_at": pa.array([1_780_000_000_000_000, 2**62, None, 0], pa.timestamp("us", "Mars/P")),
                      "colour": pa.DictionaryArray.from_arrays([0, 0, 1, 0], ["red", "x" * 2_000_000])})
    sink = io.BytesIO()
    pq.write_table(table, sink)
    data = sink.getvalue()
    upload = await send(house, await begin(house, data, name="p.parquet", kind="parquet"), data)
    assert (upload["rows"], upload["refused"], upload["done"]) == (4, 2, True)
    found = await events(house)
    assert {one["customer"]: one.get("occurred_at") for one in found.values()} == {
        "c-1": "2026-05-28T20:26:40+00:00", "c-4": "1970-01-01T00:00:00+00:00"}
    letters = (await house.admin.get("/v1/pipelines/shop/dead-letters")).json()
    assert {(one["place"], one["reason"].partition(":")[0], one["field"]) for one in letters} == {
        ("p.parquet:2", "out_of_range", "occurred_at"), ("p.parquet:3", "too_large", None)}


async def test_what_is_no_parquet_or_not_what_was_announced_is_refused_and_can_be_sent_again(house: House) -> None:
    await house.apply()
    data = b"PAR1 this is not what it says PAR1"
    upload = await begin(house, data, name="p.parquet", kind="parquet")
    path = f"{UPLOADS}/{upload['id']}"
    assert_problem(await house.admin.patch(path, params={"offset": 0}, content=data[::-1]), 422, field="sha256")
    assert (await house.admin.get(path)).json()["offset"] == 0
    assert_problem(await house.admin.patch(path, params={"offset": 0}, content=data), 422, field="format")


async def test_the_same_file_again_goes_on_or_is_done_and_a_wrong_offset_says_the_right_one(house: House) -> None:
    await house.apply()
    upload = await begin(house, CSV)
    path = f"{UPLOADS}/{upload['id']}"
    await house.admin.patch(path, params={"offset": 0}, content=CSV[:90])
    again = await begin(house, CSV, name="renamed.csv")
    assert (again["id"], again["offset"], again["name"]) == (upload["id"], 90, "people.csv")
    for wrong in (0, 89, 91):
        said = await house.admin.patch(path, params={"offset": wrong}, content=CSV[wrong:])
        assert_problem(said, 409, field="offset")
        assert said.json()["offset"] == 90
    ranged = await house.admin.put(path, content=CSV[90:], headers={
        "content-range": f"bytes 90-{len(CSV) - 1}/{len(CSV)}"})
    assert ranged.json()["done"]
    before = await house.records("lepton-events-shop")
    assert (await house.admin.patch(path, params={"offset": 0}, content=CSV)).json()["done"]
    assert (await begin(house, CSV))["done"]
    assert await house.records("lepton-events-shop") == before


async def test_what_was_written_and_not_noted_has_the_same_ids_when_it_is_sent_again(
        house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    await house.apply()
    data = b"customer,price\n" + b"".join(b"c-%d,%d\n" % (n % 9, n) for n in range(2500))
    upload = await begin(house, data)
    swap = type(house.database.collection("uploads")).swap
    away = 3

    async def lost(self: Any, *args: Any) -> bool:
        """The database goes away after rows were written, three times."""
        nonlocal away
        if self.name == "uploads" and "rows" in args[2] and (away := away - 1) >= 0:
            raise Unavailable("the database is away")
        return bool(await swap(self, *args))

    monkeypatch.setattr(type(house.database.collection("uploads")), "swap", lost)
    while not upload["done"]:
        answer = await house.admin.patch(f"{UPLOADS}/{upload['id']}", params={"offset": upload["offset"]},
                                         content=data[upload["offset"]:])
        if answer.status_code != 200:
            assert answer.status_code == 503
            answer = await house.admin.get(f"{UPLOADS}/{upload['id']}")
        upload = answer.json()
    seen = Counter(Envelope.from_headers(record.headers).event_id
                   for record in await house.records("lepton-events-shop"))
    assert set(seen) == {f"{upload['id']}-{n}" for n in range(1, 2501)}
    assert max(seen.values()) == 4, "the first thousand came four times under the same ids"
    assert upload["rows"] == 2500


async def test_two_who_send_the_same_bytes_at_once_leave_one_set_of_rows(tmp_path: Path, house: House) -> None:
    await house.apply()
    data = b"customer,price\n" + b"".join(b"c-%d,%d\n" % (n % 9, n) for n in range(300))
    upload = await begin(house, data)
    async with open_house(tmp_path / "other", house.broker, house.database) as other:
        key = house.settings.bootstrap_file.read_text().strip()

        async def sending(client: httpx.AsyncClient) -> None:
            at = 0
            while True:
                said = await client.patch(f"{UPLOADS}/{upload['id']}", params={"offset": at}, content=data[at:at + 500])
                assert said.status_code in (200, 409), said.text
                at = said.json()["offset"]
                if said.json().get("done"):
                    return

        await asyncio.gather(sending(house.admin), sending(other.client(key)))
    seen = {Envelope.from_headers(record.headers).event_id for record in await house.records("lepton-events-shop")}
    assert seen == {f"{upload['id']}-{n}" for n in range(1, 301)}
    assert (await begin(house, data))["rows"] == 300


async def test_a_record_without_end_is_one_refused_row_and_the_file_goes_on(house: House) -> None:
    await house.apply()
    data = (b'{"event_id": "e-1", "customer": "c"}\n' + b"x" * 3_000_000 + b"\n"
            + b'{"event_id": "e-2", "customer": "c"}\n')
    upload = await send(house, await begin(house, data, kind="jsonl", name="p.jsonl"), data, 700_000)
    assert (upload["rows"], upload["refused"]) == (3, 1)
    (letter,) = (await house.admin.get("/v1/pipelines/shop/dead-letters")).json()
    assert letter["place"] == "p.jsonl:2" and letter["code"] == "too_large"
    assert set(await events(house)) == {"e-1", "e-2"}
    whole = await send(house, await begin(house, data + b"\n", kind="jsonl", name="p.jsonl"), data + b"\n", 8_000_000)
    assert (whole["rows"], whole["refused"]) == (3, 1)


async def test_a_quote_that_never_closes_does_not_swallow_the_file(house: House) -> None:
    await house.apply()
    good = b"".join(b"c-%d,%d\n" % (n % 9, n) for n in range(120_000))
    data = b'customer,price\n"open,1\n' + good
    upload = await send(house, await begin(house, data), data, 1 << 20)
    assert upload["done"] and upload["refused"] >= 1
    assert upload["rows"] > 5_000, "at most a megabyte is lost to it"


REFUSED = [
    ({"format": "xlsx"}, 422, "format"), ({"size": 0}, 422, "size"), ({"sha256": "xyz"}, 422, "sha256"),
    ({"name": "../etc/passwd"}, 422, "name"), ({"delimiter": "ab"}, 422, "delimiter"), ({"size": 1 << 50}, 422, "size"),
]


@pytest.mark.parametrize(("change", "status", "field"), REFUSED, ids=str)
async def test_a_file_that_cannot_be_taken_is_refused_when_it_is_announced(
        house: House, change: dict[str, Any], status: int, field: str) -> None:
    await house.apply()
    assert_problem(await house.admin.post(UPLOADS, json={**told(CSV), **change}), status, field=field)


async def test_a_header_that_does_not_fit_is_refused_before_anything_is_written(house: House) -> None:
    await house.apply()
    for data, field in ((b"a,b\n1,2\n", "customer"), (b"customer,customer,price\n", "customer"),
                        (b"customer\n1\n", "columns"), (b"customer,,price\n1,2,3\n", "columns")):
        upload = await begin(house, data)
        assert_problem(await house.admin.patch(f"{UPLOADS}/{upload['id']}", params={"offset": 0}, content=data), 422,
                       field=field)
    assert await house.records("lepton-events-shop") == []


async def test_without_memory_of_events_nothing_is_taken_that_could_count_twice(house: House) -> None:
    await house.apply(PIPELINE.replace("partitions: 4", "partitions: 4\n  dedupe_window: 0"))
    assert_problem(await house.admin.post(UPLOADS, json=told(CSV)), 409, field="events.dedupe_window")


async def test_uploads_are_listed_and_belong_to_their_pipeline(house: House) -> None:
    await house.apply()
    await house.apply(PIPELINE.replace("name: shop", "name: other"))
    upload = await begin(house, CSV)
    assert [one["id"] for one in (await house.admin.get(UPLOADS)).json()] == [upload["id"]]
    assert_problem(await house.admin.get(f"/v1/pipelines/other/uploads/{upload['id']}"), 404)
    assert_problem(await house.admin.patch(f"{UPLOADS}/{upload['id']}", content=b"x"), 422, field="offset")
    reader = await house.with_scopes("read")
    assert_problem(await reader.post(UPLOADS, json=told(CSV)), 403)


async def test_bytes_whose_rows_did_not_become_durable_are_wanted_again(
        house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    await house.apply()
    data = b"customer,price\n" + b"".join(b"c-%d,%d\n" % (n % 9, n) for n in range(2500))
    upload = await begin(house, data)
    send_all, calls = Producer.send_all, 0

    async def away(self: Producer, records: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise Unavailable("the broker is away")
        return await send_all(self, records)

    monkeypatch.setattr(Producer, "send_all", away)
    answer = await house.admin.patch(f"{UPLOADS}/{upload['id']}", params={"offset": 0}, content=data)
    assert answer.status_code == 503
    stands = (await house.admin.get(f"{UPLOADS}/{upload['id']}")).json()
    assert stands["rows"] == 1000 and stands["offset"] == data.index(b"c-1,1000\n")
    assert (await send(house, stands, data))["rows"] == 2500
    assert len(await events(house)) == 2500
