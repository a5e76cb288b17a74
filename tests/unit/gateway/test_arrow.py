"""An Arrow stream that is posted: split by entity, durable before the answer, refused whole with every reason."""

from typing import Any

import httpx
import pyarrow as pa
import pytest

from lepton.bus.records import partition_for
from lepton.contracts.arrow.stream import CONTENT_TYPE, read_table, write_table
from lepton.contracts.envelope import Envelope
from lepton.contracts.pipeline import parse
from services.gateway.core import arrow
from tests.unit.gateway.house import PIPELINE, House
from tests.unit.gateway.test_access import assert_problem

EVENTS = "/v1/pipelines/shop/events"


def table(count: int, **columns: Any) -> pa.Table:
    plain = {"event_id": [f"e-{number}" for number in range(count)],
             "customer": [f"c-{number % 7}" for number in range(count)], "price": [1.5] * count}
    return pa.table({name: column for name, column in (plain | columns).items() if column is not None})


async def post(house: House, body: bytes, path: str = EVENTS, **headers: str) -> httpx.Response:
    return await house.admin.post(path, content=body, headers={"content-type": CONTENT_TYPE, **headers})


async def test_rows_are_written_to_the_partitions_of_their_entities_in_order(house: House) -> None:
    await house.apply()
    response = await post(house, write_table(table(50)), **{"ce-source": "till/3"})
    assert response.status_code == 202, response.text
    records = await house.records("lepton-events-shop")
    told = response.json()
    assert told["accepted"] == 50
    assert {one["place"]: one["rows"] for one in told["records"]} == {
        one.place: read_table(one.value or b"").num_rows for one in records}
    for one in records:
        rows = read_table(one.value or b"").to_pylist()
        assert {partition_for(row["customer"].encode(), 4) for row in rows} == {one.partition}
        numbers = [int(row["event_id"][2:]) for row in rows]
        assert numbers == sorted(numbers)
        envelope = Envelope.from_headers(one.headers)
        assert (envelope.source, envelope.content_type, one.key) == ("till/3", CONTENT_TYPE, None)


async def test_a_column_that_does_not_fit_is_told_at_once(house: House) -> None:
    await house.apply()
    for columns, field in (({"price": ["1.5"] * 3}, "price"), ({"customer": None}, "customer"), ({"prize": [1, 2, 3]},
                                                                                                "prize")):
        response = await post(house, write_table(table(3, **columns)))
        assert_problem(response, 422)
        assert response.json()["problems"][0]["path"] == field
    assert await house.records("lepton-events-shop") == []


async def test_rows_without_a_key_are_all_named_and_nothing_is_written(house: House) -> None:
    await house.apply()
    bad = table(4, event_id=["e-0", None, "", "e-3"], customer=["c-1", "c-1", "c-1", "x" * 300])
    response = await post(house, write_table(bad))
    assert_problem(response, 422)
    assert {(one["path"], one["message"]) for one in response.json()["problems"]} == {
        ("[3].customer", "longer than 256 characters"), ("[1].event_id", "is missing"), ("[2].event_id", "is empty")}
    assert await house.records("lepton-events-shop") == []


@pytest.mark.parametrize("body", [b"", b"not Arrow", write_table(table(3))[:-20], write_table(table(0))])
async def test_what_is_no_stream_of_rows_is_refused(house: House, body: bytes) -> None:
    await house.apply()
    assert_problem(await post(house, body), 422)


async def test_labels_do_not_come_as_a_stream(house: House) -> None:
    await house.apply()
    response = await post(house, write_table(table(3)), "/v1/pipelines/shop/labels")
    assert_problem(response, 415)


def test_many_rows_become_records_that_fit_the_topic(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrow, "MAX_RECORD_ROWS", 10)
    monkeypatch.setattr(arrow, "MAX_RECORD_BYTES", 900)
    found = arrow.pieces(parse(PIPELINE), 4, write_table(table(100)))
    assert sum(one.rows for one in found) == 100
    assert all(one.rows <= 10 and len(one.data) <= 900 for one in found)
