"""What a data set is when it is read: accepted rows with their newest labels, in any form, in parts, of any moment."""

import json
from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lepton.store.artifacts import sha256_hex
from lepton.store.datasets.upkeep import Upkeep
from services.gateway.flow.datasets import reading
from tests.unit.datasets.conftest import World, event


async def test_rows_come_with_their_labels_in_every_format(world: World) -> None:
    await world.send(*range(20))
    arrow = (await world.rows()).sort_by("price")
    assert arrow.column_names == ["_event_id", "_entity", "_occurred_at", "price", "colour", "_label", "_label_time"]
    assert arrow.column("_event_id").to_pylist() == [f"sale-{number}" for number in range(20)]
    assert arrow.column("colour").to_pylist() == [event(number)["colour"] for number in range(20)]
    assert arrow.column("_label").to_pylist() == [number % 4 == 0 if number % 2 == 0 else None for number in range(20)]
    assert (await world.rows(format="parquet")).sort_by("price").equals(arrow)
    answer = await world.api.get("/v1/datasets/shop/rows", headers={"accept": "application/x-ndjson"})
    assert answer.headers["content-type"] == "application/x-ndjson"
    lines = sorted((json.loads(line) for line in answer.text.splitlines()), key=lambda row: row["price"])
    assert [line["_event_id"] for line in lines] == [f"sale-{number}" for number in range(20)]
    assert lines[0]["_occurred_at"] == "2026-01-01T00:00:00Z" and lines[1]["_label"] is None


async def test_columns_labels_and_limits_are_chosen(world: World) -> None:
    await world.send(*range(10))
    chosen = await world.rows(columns="price,_source_offset,_label", labelled=True)
    assert chosen.column_names == ["price", "_source_offset", "_label"]
    assert sorted(chosen.column("price").to_pylist()) == [0.0, 2.0, 4.0, 6.0, 8.0]
    assert (await world.rows(limit=3)).num_rows == 3
    answer = await world.api.get("/v1/datasets/shop/rows", params={"columns": "price,weight"})
    assert answer.status_code == 422 and "weight" in answer.json()["detail"]
    assert (await world.api.get("/v1/datasets/nothing/rows")).status_code == 404
    assert (await world.api.get("/v1/datasets/shop/rows", params={"snapshot": "0" * 64})).status_code == 404


async def test_a_data_set_without_rows_is_an_empty_table(world: World) -> None:
    for kind in ("arrow", "parquet"):
        empty = await world.rows(format=kind)
        assert (empty.num_rows, "_label" in empty.column_names) == (0, True)
    assert (await world.api.get("/v1/datasets/shop/rows?format=ndjson")).content == b""
    assert (await world.api.get("/v1/datasets/shop/profile")).json()["rows"] == 0
    (listed,) = (await world.api.get("/v1/datasets")).json()
    assert (listed["rows"], listed["label"], listed["snapshots"]) == (0, "bought", 0)


async def test_corrections_come_as_tables_and_the_newest_counts(world: World) -> None:
    await world.send(*range(4), labels=False)
    post = "/v1/datasets/shop/labels"
    csv = (b"event_id,bought,customer,label_time\nsale-0,true,buyer-0,2026-02-01T00:00:00Z\n"
           b"sale-1,0,buyer-1,2026-02-01T00:00:00Z\n")
    table = pa.table({"event_id": ["sale-1", "sale-2"], "label": [True, False],
                      "label_time": ["2026-02-02T00:00:00Z", "2026-02-01T00:00:00Z"]})
    file = BytesIO()
    pq.write_table(table, file)
    for media, body in (("text/csv", csv), ("application/vnd.apache.parquet", file.getvalue())):
        answer = await world.api.post(post, content=body, headers={"content-type": media})
        assert (answer.status_code, answer.json()) == (202, {"accepted": 2}), answer.text
    # Older than what is known: it changes nothing.
    old = b'{"event_id": "sale-0", "label": false, "label_time": "2026-01-01T00:00:00Z"}'
    assert (await world.api.post(post, content=old, headers={"content-type": "application/x-ndjson"})).is_success
    await world.stored(4, 5)
    labels = dict(zip(*(await world.rows()).select(["_event_id", "_label"]).to_pydict().values(), strict=True))
    assert labels == {"sale-0": True, "sale-1": True, "sale-2": False, "sale-3": None}
    for media, body, why in (("text/csv", b"id\n1\n", "no column event_id"),
                             ("application/vnd.apache.parquet", b"PAR1", "cannot be read as Parquet"),
                             ("text/csv", b"event_id,label\n,true\n", "is missing")):
        answer = await world.api.post(post, content=body, headers={"content-type": media})
        assert answer.status_code == 422 and why in answer.text, answer.text
    assert (await world.api.post(post, content=b"x", headers={"content-type": "text/html"})).status_code == 415


async def test_the_same_rows_are_one_snapshot_and_later_rows_are_not_in_it(world: World) -> None:
    await world.send(*range(10))
    first = await world.snapshot()
    assert await world.snapshot() == first
    await world.send(*range(10, 15))
    assert await world.snapshot() != first
    assert await world.ids(snapshot=first) == [f"sale-{number}" for number in range(10)]
    assert len(await world.ids()) == 15
    told = (await world.api.get(f"/v1/datasets/shop/snapshots/{first}")).json()
    assert (told["rows"], told["outcomes_taken"], told["erased"]) == (10, 5, [])
    assert sum(one["rows"] for one in told["partitions"] if one["stream"] == "features") == 10
    listed = (await world.api.get("/v1/datasets/shop/snapshots")).json()
    assert [one["id"] for one in listed][1:] == [first]
    answer = await world.api.get("/v1/datasets/shop/rows", params={"snapshot": first})
    assert answer.headers["x-lepton-snapshot"] == first


async def test_a_snapshot_with_a_label_cut_knows_no_later_label(world: World) -> None:
    await world.send(0, labels=False)
    await world.label({"event_id": "sale-0", "label": True, "label_time": "2026-03-01T00:00:00Z"})
    await world.label({"event_id": "sale-0", "label": False, "label_time": "2026-03-05T00:00:00Z"})
    await world.stored(1, 2)
    cut = await world.snapshot(label_until="2026-03-02T00:00:00Z")
    assert (await world.rows(snapshot=cut)).column("_label").to_pylist() == [True]
    assert (await world.rows()).column("_label").to_pylist() == [False]


async def test_a_pipeline_without_rows_has_no_snapshot(world: World) -> None:
    job = await world.done(await world.api.post("/v1/datasets/shop/snapshots"))
    assert job["state"] == "FAILED" and "no stored rows" in job["reason"]
    assert (await world.api.post("/v1/datasets/nothing/snapshots")).status_code == 404


@pytest.mark.parametrize("by", ["event", "entity"])
async def test_a_split_is_whole_disjoint_and_the_same_again(world: World, by: str) -> None:
    await world.send(*range(60))
    how: dict[str, Any] = {"by": by, "seed": 3, "shares": "0.6,0.2,0.2"}
    parts = {part: await world.rows(part=part, **how) for part in ("train", "validation", "test")}
    ids = {part: set(rows.column("_event_id").to_pylist()) for part, rows in parts.items()}
    assert sum(map(len, ids.values())) == len(set.union(*ids.values())) == 60
    assert set((await world.rows(part="train", **how)).column("_event_id").to_pylist()) == ids["train"]
    told = (await world.api.get("/v1/datasets/shop/split", params=how)).json()
    assert {part: one["rows"] for part, one in told["parts"].items()} == {part: len(one) for part, one in ids.items()}
    assert set((await world.rows(part="train", **how | {"seed": 4})).column("_event_id").to_pylist()) != ids["train"]
    if by == "entity":
        entities = [set(rows.column("_entity").to_pylist()) for rows in parts.values()]
        assert sum(map(len, entities)) == len(set.union(*entities)) == 7
    # More rows change nothing for those that were there.
    await world.send(*range(60, 80))
    assert ids["test"] <= set((await world.rows(part="test", **how)).column("_event_id").to_pylist())


async def test_a_split_by_time_is_one_of_rows_that_stand_still(world: World) -> None:
    await world.send(*range(56))
    refused = await world.api.get("/v1/datasets/shop/split", params={"by": "time"})
    assert refused.status_code == 422 and "snapshot" in refused.json()["remedy"]
    how = {"by": "time", "shares": "0.5,0.25,0.25", "snapshot": await world.snapshot()}
    told = (await world.api.get("/v1/datasets/shop/split", params=how)).json()
    assert [one["rows"] for one in told["parts"].values()] == [28, 14, 14]
    assert told["parts"]["train"]["last"] < told["parts"]["validation"]["first"]
    assert told["parts"]["validation"]["last"] < told["parts"]["test"]["first"]
    later = (await world.rows(part="test", **how)).column("_occurred_at").to_pylist()
    assert len(later) == 14 and min(later).isoformat() == told["parts"]["test"]["first"]
    cut = await world.rows(part="train", by="time", cuts="1767398400,1767484800")
    assert {one.isoformat()[:10] for one in cut.column("_occurred_at").to_pylist()} == {"2026-01-01", "2026-01-02"}
    for wrong in ({"shares": "1,2"}, {"shares": "0.5,0.1,0.1"}, {"shares": "a,b,c"}, {"cuts": "1,2"}, {"by": "chance"},
                  {"by": "time", "cuts": "2,1"}):
        assert (await world.api.get("/v1/datasets/shop/split", params=wrong)).status_code == 422, wrong


async def test_a_profile_tells_each_field_exactly_while_rows_are_few(world: World) -> None:
    await world.send(*range(30))
    told = (await world.api.get("/v1/datasets/shop/profile")).json()
    assert (told["rows"], told["entities"], told["entities_exact"]) == (30, 7, True)
    price = told["fields"]["price"]
    assert (price["mean"], price["min"], price["max"], price["distinct"], price["missing"]) == (14.5, 0, 29, 30, 0)
    assert price["quantiles"]["0.5"] == 14.5 and price["quantiles_exact"] and price["distinct_exact"]
    assert price["std"] == pytest.approx(8.6554, abs=1e-4)
    colour = told["fields"]["colour"]
    assert colour["missing"] == 10 and colour["top"] == [{"value": "blue", "count": 10}, {"value": "red", "count": 10}]
    assert told["fields"]["_label"]["missing"] == 15 and told["fields"]["_occurred_at"]["min"].startswith("2026-01-01")
    only = (await world.api.get("/v1/datasets/shop/profile", params={"columns": "price", "labelled": True})).json()
    assert (list(only["fields"]), only["rows"]) == (["price"], 15)
    assert (await world.api.get("/v1/datasets/shop/profile")).json() == told


async def test_damage_is_said_loudly_and_breaks_an_answer_off(world: World) -> None:
    await world.send(*range(4))
    await world.send(*range(4, 8))
    snapshot = await world.snapshot()
    segments = await Upkeep(world.database).segments("shop", "features", 1)
    chunk = await world.database.collection("fs.chunks").get(f"{segments[0].digest}-000000")
    assert chunk is not None and sha256_hex(chunk["data"]) == segments[0].digest
    flipped = bytes([chunk["data"][0] ^ 1]) + chunk["data"][1:]
    await world.database.collection("fs.chunks").put({**chunk, "data": flipped})
    for parameters in ({}, {"snapshot": snapshot}):
        for path in ("rows", "profile"):
            answer = await world.api.get(f"/v1/datasets/shop/{path}", params=parameters)
            assert answer.status_code == 503 and "damaged" in answer.json()["detail"], answer.text


async def test_readers_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.send(0)
    monkeypatch.setattr(reading, "MAX_READERS", 0)
    answer = await world.api.get("/v1/datasets/shop/rows")
    assert answer.status_code == 429 and int(answer.headers["retry-after"]) >= 1
