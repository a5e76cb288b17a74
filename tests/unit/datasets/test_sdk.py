"""`client.datasets` and `lepton datasets` against a real gateway and ingest."""

import asyncio
import importlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

from lepton.errors import Invalid, Missing, Refused, Unavailable
from lepton.store.datasets.upkeep import Upkeep
from lepton_ai import AsyncLeptonClient, LeptonClient
from lepton_ai.cli.app import app
from services.gateway.core.datasets import formats
from tests.harness.wait import apoll_until
from tests.unit.datasets.conftest import CUSTOMERS, World


def who(world: World) -> list[str]:
    key_id, _, secret = str(world.api.headers["authorization"]).removeprefix("Bearer ").partition(".")
    return [key_id, secret, f"http://{world.gateway.address}"]


async def beside(work: Callable[[], Any]) -> Any:
    """Blocking work in a thread, while the gateway answers here."""
    return await asyncio.to_thread(work)


def named(folder: Path, part: str) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if part in path.name)


async def test_a_data_set_is_listed_profiled_and_read_into_every_library(world: World) -> None:
    await world.send(*range(30))
    async with AsyncLeptonClient(*who(world)) as client:
        (listed,) = await client.datasets.list()
        assert listed == await client.datasets.get("shop") and str(listed).startswith("data set shop: 30 rows, 15 lab")
        profile = await client.datasets.profile("shop")
        assert profile.fields["price"]["mean"] == 14.5 and "price (double): missing 0, distinct 30" in str(profile)
        rows = client.datasets.rows("shop")
        assert repr(rows) == "rows of shop"
        table = await rows.to_arrow()
        assert table.num_rows == 30 == sum([batch.num_rows async for batch in rows.batches()])
        frame = await rows.to_polars()
        assert isinstance(frame, polars.DataFrame) and frame["price"].sum() == 435.0
        assert isinstance(await rows.to_torch(), torch.utils.data.TensorDataset)
        found: Any = await rows.to_torch()
        inputs, label = found.tensors
        assert (inputs.shape, inputs.dtype, found.columns, found.classes) == (
            (15, 1), torch.float32, ("price",), ("false", "true"))
        assert label.dtype == torch.int64 and label.tolist() == [int(one % 4 == 0) for one in inputs[:, 0].tolist()]
        with pytest.raises(Invalid, match="column colour is string"):
            await rows.to_torch(["colour"])
        with pytest.raises(Missing, match="no pipeline nothing"):
            await client.datasets.rows("nothing").to_arrow()


async def test_a_library_that_is_not_installed_is_missed_in_one_line(world: World,
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def without(name: str, package: str | None = None) -> Any:
        if name in ("pandas", "torch", "polars"):
            raise ImportError(name)
        return real(name, package)

    monkeypatch.setattr("lepton_ai._datasets.elsewhere.importlib.import_module", without)
    async with AsyncLeptonClient(*who(world)) as client:
        rows = client.datasets.rows("shop")
        for name, ask in (("pandas", rows.to_pandas), ("polars", rows.to_polars), ("torch", rows.to_torch)):
            with pytest.raises(Missing, match=f"{name} is not installed.*pip install {name}"):
                await ask()


async def test_snapshot_split_and_export(world: World, tmp_path: Path) -> None:
    await world.send(*range(40))
    async with AsyncLeptonClient(*who(world)) as client:
        first = await client.datasets.snapshot("shop")
        assert await client.datasets.snapshot("shop") == first and first.rows == 40
        assert await client.datasets.snapshots("shop") == [first]
        await world.send(*range(40, 50))
        assert (await client.datasets.rows(first).to_arrow()).num_rows == 40
        for by in ("entity", "time"):
            split = await client.datasets.split(first, by=by, seed=1, shares=(0.5, 0.25, 0.25))
            parts = [await part.to_arrow() for part in (split.train, split.validation, split.test)]
            assert [part.num_rows for part in parts] == list(split.counts.values())
            ids = [set(part.column("_event_id").to_pylist()) for part in parts]
            assert len(set.union(*ids)) == sum(map(len, ids)) == 40
            entities = [set(part.column("_entity").to_pylist()) for part in parts]
            assert by == "time" or sum(map(len, entities)) == len(set.union(*entities)) == CUSTOMERS
            times = [part.column("_occurred_at").to_pylist() for part in parts]
            assert by == "entity" or max(times[0]) < min(times[1]) <= max(times[1]) < min(times[2])
        live = await client.datasets.split("shop", by="time")
        assert "snapshot" in live.train.asked and sum(live.counts.values()) == 50
        for name in ("rows.parquet", "rows.ndjson", "rows.arrow"):
            assert await client.datasets.export(first, tmp_path / name, labelled=True) == tmp_path / name
        assert polars.read_parquet(tmp_path / "rows.parquet").height == 20
        assert polars.read_ndjson(tmp_path / "rows.ndjson").height == 20
        assert pa.ipc.open_stream((tmp_path / "rows.arrow").read_bytes()).read_all().num_rows == 20
        with pytest.raises(Invalid, match="no format"):
            await client.datasets.export(first, tmp_path / "rows.xls")
        with pytest.raises(Refused, match="cannot be written"):
            await client.datasets.export(first, tmp_path / "absent" / "rows.parquet")
        assert named(tmp_path, "rows") == ["rows.arrow", "rows.ndjson", "rows.parquet"], "a draft is left"
        cut = await client.datasets.snapshot("shop", label_until=datetime(2020, 1, 1, tzinfo=UTC))
        assert (await client.datasets.rows(cut, labelled=True).to_arrow()).num_rows == 0
        await client.datasets.drop_snapshot(first)
        with pytest.raises(Missing):
            await client.datasets.get_snapshot("shop", first.id)


async def test_parquet_has_row_groups_of_bounded_size(world: World, tmp_path: Path,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    await world.send(*range(20))
    await world.send(*range(20, 40))
    monkeypatch.setattr(formats, "GROUP_ROWS", 8)
    async with AsyncLeptonClient(*who(world)) as client:
        await client.datasets.export("shop", tmp_path / "rows.parquet")
    told = pq.ParquetFile(tmp_path / "rows.parquet").metadata
    assert told.num_rows == 40 and max(told.row_group(one).num_rows for one in range(told.num_row_groups)) <= 8


async def test_labels_come_from_files_of_each_kind_and_from_rows(world: World, tmp_path: Path) -> None:
    await world.send(*range(5), labels=False)
    (tmp_path / "labels.csv").write_text("event_id,label\nsale-0,yes\n")
    (tmp_path / "labels.jsonl").write_text('{"event_id": "sale-1", "label": true}\n')
    pq.write_table(pa.table({"event_id": ["sale-2"], "bought": [1]}), tmp_path / "labels.parquet")
    async with AsyncLeptonClient(*who(world)) as client:
        for source in ("labels.csv", "labels.jsonl", "labels.parquet"):
            assert await client.datasets.label("shop", tmp_path / source) == 1
        assert await client.datasets.label("shop", [{"event_id": "sale-3", "label": False}]) == 1
        await world.stored(5, 4)
        labels = (await client.datasets.rows("shop").to_polars()).sort("_event_id")["_label"].to_list()
        assert labels == [True, True, True, False, None]
        (tmp_path / "wrong.csv").write_text("event_id,label\nsale-0,perhaps\n")
        for source, why in (("wrong.csv", "'perhaps' is no bool"), ("labels.txt", "no table of labels")):
            with pytest.raises(Invalid, match=why):
                await client.datasets.label("shop", tmp_path / source)
        with pytest.raises(Missing, match="cannot be read"):
            await client.datasets.label("shop", tmp_path / "absent.csv")


async def test_an_erasure_is_counted_done_and_failed_in_the_open(world: World) -> None:
    await world.send(*range(14))
    async with AsyncLeptonClient(*who(world)) as client:
        frozen = await client.datasets.snapshot("shop")
        dry = await client.datasets.erase("shop", "buyer-3", dry_run=True)
        assert (dry.dry_run, dry.rows, dry.outcomes) == (True, 2, 1)
        done = await client.datasets.erase("shop", "buyer-3")
        assert (done.rows, done.outcomes, done.snapshots, done.dry_run) == (2, 1, 1, False) and done.entity_key
        again = await client.datasets.get_snapshot("shop", frozen.id)
        assert (again.rows, again.erased[0]["job_id"]) == (12, done.job_id) and "2 erased" in str(again)
        assert (await client.datasets.job("shop", done.job_id))["state"] == "DONE"
        (segment, *_) = [one for one in await Upkeep(world.database).segments("shop", "features") if one.rows]
        await world.database.collection("fs.files").delete({"_id": segment.digest})
        with pytest.raises(Unavailable, match="cannot be read"):
            await client.datasets.erase("shop", "buyer-4")
    reader = await world.gateway.with_scopes("read")
    world.api.headers["authorization"] = reader.headers["authorization"]
    async with AsyncLeptonClient(*who(world)) as client:
        with pytest.raises(Refused, match="may not admin"):
            await client.datasets.erase("shop", "buyer-1")


async def test_an_answer_that_breaks_off_is_not_taken_for_the_whole(world: World) -> None:
    await world.send(*range(8))
    await world.send(*range(8, 16))
    segments = [one for one in await Upkeep(world.database).segments("shop", "features") if one.rows]
    # The last of them: the first rows are on their way when it is found out.
    chunk = await world.database.collection("fs.chunks").get(f"{segments[-1].digest}-000000")
    assert chunk is not None
    await world.database.collection("fs.chunks").put({**chunk, "data": b"\0" + chunk["data"][1:]})
    async with AsyncLeptonClient(*who(world)) as client:
        client.transport._timeout_s = 1
        with pytest.raises(Unavailable, match="broke off"):
            await client.datasets.rows("shop").to_arrow()


async def test_the_client_without_an_event_loop_has_the_same_verbs(world: World, tmp_path: Path) -> None:
    await world.send(*range(20))

    def work() -> None:
        with LeptonClient(*who(world)) as client:
            datasets = client.datasets
            assert [one.name for one in datasets.list()] == ["shop"] and datasets.get("shop").rows == 20
            assert datasets.profile("shop", columns=["price"]).rows == 20
            frozen = datasets.snapshot("shop")
            assert datasets.snapshots("shop") == [frozen] == [datasets.get_snapshot("shop", frozen.id)]
            rows = datasets.rows(frozen, columns=["price"], limit=15)
            assert rows.to_arrow().num_rows == 15 == sum(batch.num_rows for batch in rows.batches())
            assert rows.to_polars().columns == ["price"] and len(rows.to_torch()) == 15 and "price" in repr(rows)
            assert rows.export(tmp_path / "some.parquet") == datasets.export("shop", tmp_path / "some.parquet")
            split = datasets.split("shop", by="entity", seed=2)
            assert split.train.to_arrow().num_rows == split.counts["train"]
            assert datasets.label("shop", [{"event_id": "sale-1", "label": True}]) == 1
            erased = datasets.erase("shop", "buyer-2")
            assert erased.rows == 3 and datasets.job("shop", erased.job_id)["state"] == "DONE"
            datasets.drop_snapshot(frozen)

    await beside(work)


async def test_the_command_line_does_it_all(world: World, tmp_path: Path) -> None:
    await world.send(*range(20))
    key, secret, region = who(world)

    async def lepton(*arguments: str) -> tuple[int, str]:
        def run() -> tuple[int, str]:
            done = CliRunner().invoke(app, ["--key", key, "--secret", secret, "--region", region, "datasets",
                                            *arguments])
            if done.exception is not None and not isinstance(done.exception, SystemExit):
                raise done.exception
            return done.exit_code, done.stdout
        found: tuple[int, str] = await beside(run)
        return found

    assert "shop" in (await lepton("list"))[1]
    assert json.loads((await lepton("list", "--json"))[1])[0]["rows"] == 20
    assert "20 rows of 7 entities" in (await lepton("profile", "shop"))[1]
    told = json.loads((await lepton("profile", "shop", "--columns", "price", "--json"))[1])
    assert told["fields"].keys() == {"price"}
    taken = json.loads((await lepton("snapshot", "shop", "--json"))[1])["id"]
    assert (await lepton("snapshot", "shop"))[1].startswith(taken)
    assert taken in (await lepton("snapshots", "shop"))[1]
    assert "train" in (await lepton("split", "shop", "-s", taken[:8], "--by", "time", "--out", str(tmp_path / "s")))[1]
    assert sum(polars.read_parquet(tmp_path / "s" / f"{part}.parquet").height
               for part in ("train", "validation", "test")) == 20
    told = json.loads((await lepton("split", "shop", "--by", "entity", "--seed", "5", "--json"))[1])
    assert sum(told["counts"].values()) == 20 and told["method"].startswith("SHA-256")
    assert "bytes" in (await lepton("export", "shop", "--out", str(tmp_path / "all.ndjson"), "--labelled"))[1]
    (tmp_path / "more.csv").write_text("event_id,label\nsale-1,true\n")
    assert "1 labels sent" in (await lepton("label", "shop", "-f", str(tmp_path / "more.csv")))[1]
    await world.stored(20, 11)
    assert "3 rows and 1 labels would be" in (await lepton("erase", "shop", "buyer-3", "--dry-run"))[1]
    assert (await lepton("erase", "shop", "buyer-3"))[0] == 1, "nobody said yes"
    assert len(await world.ids()) == 20
    done = json.loads((await lepton("erase", "shop", "buyer-3", "--yes", "--json"))[1])
    assert (done["rows"], done["snapshots"]) == (3, 1)
    assert json.loads((await lepton("job", "shop", done["job_id"]))[1])["action"] == "ERASE"
    assert "forgotten" in (await lepton("drop", "shop", taken[:10], "-y"))[1]
    for wrong, why in ((("split", "shop", "--by", "chance"), Invalid), (("split", "shop", "--shares", "1"), Invalid),
                       (("profile", "shop", "-s", taken), Missing), (("profile", "shop", "-s", "ab"), Invalid),
                       (("snapshot", "shop", "--label-until", "soon"), Invalid)):
        with pytest.raises(why):
            await lepton(*wrong)


async def test_a_job_asked_for_a_moment_ago_is_known(world: World) -> None:
    await world.send(0)
    asked = await world.api.post("/v1/datasets/shop/snapshots", json={"command_id": "mine"})
    for _ in range(2):
        assert (await world.api.get("/v1/datasets/shop/jobs/mine")).status_code == 200
    assert asked.json()["job_id"] == "mine"
    assert (await world.api.get("/v1/datasets/shop/jobs/never")).status_code == 404

    async def one() -> bool:
        return [job["job_id"] for job in (await world.api.get("/v1/datasets/shop/jobs")).json()] == ["mine"]

    await world.done(await world.api.post("/v1/datasets/shop/snapshots", json={"command_id": "mine"}))
    await apoll_until(one, "one job for one command")
