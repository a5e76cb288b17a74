"""A file reaches its pipeline whole, through failures of either side, from a program and from the command line."""

import asyncio
import io
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lepton.bus.memory import MemoryBroker
from lepton.errors import Invalid, Missing, Refused
from lepton.store.memory import MemoryDatabase
from lepton_ai import LeptonClient, Upload
from lepton_ai._files import uploading
from tests.harness.wait import apoll_until
from tests.unit.gateway.house import PIPELINE, House, open_house
from tests.unit.lepton_ai.files.desk import client, credentials, events, lepton, start

HEADER = "customer,price,colour\n"


def csv(path: Path, rows: int) -> Path:
    path.write_text(HEADER + "".join(f"c-{n % 7},{n / 4},{'red' if n % 2 else ''}\n" for n in range(rows)), "utf-8")
    return path


async def test_each_format_is_sent_and_progress_is_told(house: House, tmp_path: Path) -> None:
    await house.apply()
    csv(tmp_path / "a.csv", 500)
    (tmp_path / "a.tsv").write_text((tmp_path / "a.csv").read_text().replace(",", "\t") + "x\t1\tred\n", "utf-8")
    (tmp_path / "a.jsonl").write_text('{"customer": "c", "price": 1}\n' * 40, "utf-8")
    sink = io.BytesIO()
    pq.write_table(pa.table({"customer": ["c"] * 300, "price": [1.5] * 300}), sink)
    (tmp_path / "a.parquet").write_bytes(sink.getvalue())
    told: list[Upload] = []
    async with client(house) as sdk:
        for name, rows in (("a.csv", 500), ("a.tsv", 501), ("a.jsonl", 40), ("a.parquet", 300)):
            done = await sdk.upload("shop", tmp_path / name, told.append)
            assert (done.done, done.rows, done.refused, done.name) == (True, rows, 0, name)
    assert told[0].hashed == told[0].size and told[-1].total_rows == 300
    assert len(await events(house)) == 1341


async def test_a_program_without_an_event_loop_uploads_too(house: House, tmp_path: Path) -> None:
    await house.apply()
    csv(tmp_path / "a.csv", 50)

    def program() -> Upload:
        with LeptonClient(*credentials(house)) as sdk:
            return sdk.upload("shop", str(tmp_path / "a.csv"), name="other.csv")

    done = await asyncio.to_thread(program)
    assert str(done) == "other.csv into shop: done, 50 rows"


async def test_a_gateway_that_ends_in_the_middle_and_another_that_begins_lose_and_double_nothing(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploading, "PIECE_BYTES", 2000)
    csv(tmp_path / "a.csv", 1500)
    broker, database = MemoryBroker(), MemoryDatabase()
    reached = asyncio.Event()

    def tell(upload: Upload) -> None:
        if upload.rows > 300:
            reached.set()

    async with open_house(tmp_path / "house", broker, database) as house:
        await house.apply()
        async with client(house) as sdk:
            sending = asyncio.ensure_future(sdk.upload("shop", tmp_path / "a.csv", tell))
            await asyncio.wait_for(reached.wait(), 30)
            sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    async with open_house(tmp_path / "house", broker, database) as again:
        async with client(again) as sdk:
            before = (await sdk.transport.get("/v1/pipelines/shop/uploads"))[0]
            done = await sdk.upload("shop", tmp_path / "a.csv")
        seen = Counter(event_id for event_id, _ in await events(again))
    assert 300 < before["rows"] < 1500
    assert done.rows == 1500
    assert set(seen) == {f"{done.id}-{n}" for n in range(1, 1501)}


async def test_the_same_file_is_sent_once(house: House, tmp_path: Path) -> None:
    await house.apply()
    csv(tmp_path / "a.csv", 50)
    async with client(house) as sdk:
        first = await sdk.upload("shop", tmp_path / "a.csv")
        (tmp_path / "b.csv").write_bytes((tmp_path / "a.csv").read_bytes())
        assert await sdk.upload("shop", tmp_path / "b.csv") == first
    assert len(await events(house)) == 50


async def test_what_cannot_be_sent_says_why(house: House, tmp_path: Path) -> None:
    await house.apply()
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "a.xlsx").write_text("x")
    (tmp_path / "wrong.csv").write_text("a,b\n1,2\n")
    csv(tmp_path / "a.csv", 5)
    async with client(house) as sdk:
        for name, error, why in (("empty.csv", Invalid, "empty"), ("a.xlsx", Invalid, "not a format"),
                                 ("none.csv", Missing, "cannot be read"), ("wrong.csv", Invalid, "customer")):
            with pytest.raises(error, match=why):
                await sdk.upload("shop", tmp_path / name)
        with pytest.raises(Missing, match="no pipeline"):
            await sdk.upload("nothing", tmp_path / "a.csv")


async def test_a_file_that_changes_while_it_is_sent_is_told(house: House, tmp_path: Path,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploading, "PIECE_BYTES", 1000)
    await house.apply()
    path = csv(tmp_path / "a.csv", 500)

    def grow(upload: Upload) -> None:
        if upload.rows and path.stat().st_size == upload.size:
            path.write_text(path.read_text() + "c-1,1,red\n", "utf-8")

    async with client(house) as sdk:
        with pytest.raises(Invalid, match="changed while"):
            await sdk.upload("shop", path, grow)


async def test_a_pipeline_that_remembers_nothing_takes_no_file(house: House, tmp_path: Path) -> None:
    await house.apply(PIPELINE.replace("partitions: 4", "partitions: 4\n  dedupe_window: 0"))
    async with client(house) as sdk:
        with pytest.raises(Refused, match="remembers no events"):
            await sdk.upload("shop", csv(tmp_path / "a.csv", 5))


async def test_the_command_says_what_became_of_the_file(house: House, tmp_path: Path) -> None:
    await house.apply()
    (tmp_path / "b.csv").write_text("customer,price,remark\n" + "c,1,x\n" * 9 + "c,1\n", "utf-8")
    done = await lepton(house, "upload", str(tmp_path / "b.csv"), "--pipeline", "shop")
    assert done.code == 0, done.err
    assert "b.csv into shop: 10 rows, 1 of them unreadable" in done.out
    assert "not part of the pipeline: remark" in done.out
    missing = await lepton(house, "upload", "nothing.csv", "-p", "shop")
    assert missing.code == 1
    assert missing.err.endswith("lepton: cannot be read: No such file or directory; at: nothing.csv\n")


async def test_an_interrupted_command_says_how_to_go_on_and_the_next_does(house: House, tmp_path: Path) -> None:
    await house.apply()
    path = csv(tmp_path / "big.csv", 60_000)
    process = await start(house, "upload", str(path), "-p", "shop")

    async def begun() -> Any:
        return any(one["rows"] > 0 for one in (await house.admin.get("/v1/pipelines/shop/uploads")).json())

    await apoll_until(begun, "rows", 60, every_s=0.01)
    process.send_signal(signal.SIGINT)
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 130, out.decode() + err.decode()
    assert "the same command goes on from there" in err.decode()
    done = await lepton(house, "upload", str(path), "-p", "shop")
    assert "60,000 rows" in done.out
    seen = Counter(event_id for event_id, _ in await events(house))
    assert len(seen) == 60_000
