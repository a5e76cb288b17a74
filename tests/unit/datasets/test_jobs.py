"""What is asked of stored rows: who may ask, retention, generations, and jobs that wait or cannot be done."""

import pytest

from lepton.bus.records import Outgoing, TopicPlan
from lepton.clock import SystemClock
from lepton.contracts import codec, topics
from lepton.contracts.pb.data_pb2 import DataAction, DataCommand
from lepton.contracts.pipeline import parse
from lepton.contracts.topics import Topic
from lepton.errors import Unavailable
from lepton.store.datasets.upkeep import Upkeep
from lepton.store.pipelines import Pipelines
from tests.harness.bus import read_all
from tests.harness.wait import apoll_until
from tests.unit.datasets.conftest import PIPELINE, World


async def test_who_may_what(world: World) -> None:
    await world.send(0)
    snapshot = await world.snapshot()
    reader, writer = await world.gateway.with_scopes("read"), await world.gateway.with_scopes("read", "write")
    assert (await reader.get("/v1/datasets/shop/profile")).status_code == 200
    assert (await reader.post("/v1/datasets/shop/snapshots")).status_code == 403
    assert (await writer.post("/v1/datasets/shop/snapshots")).status_code == 202
    for path in ("entities/buyer-0", f"snapshots/{snapshot}"):
        assert (await writer.delete(f"/v1/datasets/shop/{path}")).status_code == 403


async def test_a_deleted_snapshot_is_gone(world: World) -> None:
    await world.send(*range(3))
    snapshot = await world.snapshot()
    path = f"/v1/datasets/shop/snapshots/{snapshot}"
    assert (await world.done(await world.api.delete(path)))["state"] == "DONE"
    assert (await world.api.get(path)).status_code == (await world.api.delete(path)).status_code == 404
    assert len(await world.ids()) == 3


async def test_rows_past_their_retention_are_dropped_and_not_read_twice(world: World) -> None:
    await world.send(*range(4))
    snapshot = await world.snapshot()
    kept = PIPELINE.replace("partitions: 2", "partitions: 2\n  retention: 200ms")
    assert (await world.gateway.apply(kept)).is_success

    async def dropped() -> bool:
        now = await world.dataset()
        return bool(now["rows"] == now["outcomes"] == now["size_bytes"] == 0)

    await apoll_until(dropped, "every row to be dropped")
    assert await world.ids() == [] and len(await world.ids(snapshot=snapshot)) == 4
    assert (await world.gateway.apply(PIPELINE)).is_success
    await world.send(10, 11)
    assert await world.ids() == ["sale-10", "sale-11"]


async def test_a_command_that_lacks_its_argument_is_a_dead_letter(world: World) -> None:
    command = DataCommand(command_id="c", action=DataAction.DATA_ACTION_ERASE, pipeline="shop", issuer="lk_0")
    command.issued_at.GetCurrentTime()
    name = topics.name(Topic.DATA_COMMANDS)
    await world.broker.writer("w").send(Outgoing(name, codec.encode(Topic.DATA_COMMANDS, command), b"shop"))

    async def refused() -> bool:
        return len(await read_all(world.broker, topics.dead_letter_name(name))) == 1

    await apoll_until(refused, "the command to be refused")


async def test_a_database_that_is_away_makes_a_job_wait_not_fail(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.send(*range(7))
    load, away = Upkeep.load, [3]

    async def failing(self: Upkeep, digest: str) -> bytes:
        if away[0] > 0:
            away[0] -= 1
            raise Unavailable("the database is away")
        return await load(self, digest)

    monkeypatch.setattr(Upkeep, "load", failing)
    monkeypatch.setattr("services.ingest.flow.upkeep.working.RETRY_S", 0.05)
    job = await world.done(await world.api.delete("/v1/datasets/shop/entities/buyer-3"))
    assert (job["state"], job["result"]["rows"], away) == ("DONE", 1, [0])


async def test_rows_of_the_generation_before_are_read_snapshot_and_erased_with_the_rest(world: World) -> None:
    await world.send(*range(7))
    spec = parse(PIPELINE.replace("partitions: 2", "partitions: 3"))
    await world.broker.create_topics([TopicPlan(*plan) for plan in topics.plans("shop", 2, 3)])
    await Pipelines(world.database, SystemClock()).apply("shop", spec.canonical_json(), spec.digest(), 2, 3, "lk_1",
                                                         keeps_rows=True)

    async def moved() -> bool:
        return bool((await world.dataset())["generation"] == 2)

    await apoll_until(moved, "the second generation")
    await world.send(*range(7, 14))
    snapshot = await world.snapshot()
    assert await world.ids() == [f"sale-{number}" for number in range(14)] == await world.ids(snapshot=snapshot)
    assert (await world.rows(labelled=True)).num_rows == 7
    dry = await world.api.delete("/v1/datasets/shop/entities/buyer-3", params={"dry_run": True})
    job = await world.done(await world.api.delete("/v1/datasets/shop/entities/buyer-3"))
    assert dry.json()["rows"] == job["result"]["rows"] == 2
    assert "sale-3" not in await world.ids() and "sale-10" not in await world.ids(snapshot=snapshot)


async def test_a_training_command_may_name_a_snapshot_of_its_pipeline(world: World) -> None:
    await world.send(*range(4))
    snapshot = await world.snapshot()
    asked = await world.api.post("/v1/models/shop/train", json={"snapshot": snapshot})
    assert asked.status_code == 202, asked.text
    (command,) = await world.gateway.messages(Topic.TRAINING_COMMANDS)
    assert command.snapshot_id == snapshot
    for wrong, status in (("0" * 64, 404), ("latest", 422)):
        assert (await world.api.post("/v1/models/shop/train", json={"snapshot": wrong})).status_code == status
    other = PIPELINE.replace("name: shop", "name: other")
    assert (await world.gateway.apply(other)).is_success
    assert (await world.api.post("/v1/models/other/train", json={"snapshot": snapshot})).status_code == 404
