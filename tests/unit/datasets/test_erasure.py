"""A person's rows are gone from everything that is stored, and stay gone, also when a process is killed half-way."""

import itertools
import json
from typing import Any

import pytest

from lepton.clock import FakeClock, SystemClock
from lepton.contracts import features, topics
from lepton.contracts.datasets.erasure import entity_key
from lepton.contracts.pb.data_pb2 import DataCommand
from lepton.contracts.pipeline import parse
from lepton.contracts.topics import Topic
from lepton.store.artifacts import Artifacts
from lepton.store.datasets.erasures import Erasures, Salts
from lepton.store.datasets.snapshots import Snapshots
from lepton.store.datasets.upkeep import Upkeep
from lepton.store.documents import Document
from lepton.store.memory import MemoryDatabase, MemoryDocuments
from services.ingest.flow.accepting import Spec
from services.ingest.flow.keeping import Keeping
from services.ingest.flow.upkeep.erasing import Erasing, logs_forget_after_s
from services.ingest.flow.upkeep.forgetting import Forgetting
from tests.unit.datasets.conftest import PIPELINE, World


async def bytes_of(database: MemoryDatabase) -> bytes:
    """Every value in the database, decoded as far as Arrow goes: where a name may still be found."""
    found = repr([(name, one._documents) for name, one in database._collections.items()
                  if name != "fs.chunks"]).encode()
    for digest in database.collection("fs.files")._documents:
        data = await Artifacts(database).get(digest)
        found += data if data.startswith(b"{") else json.dumps(features.decode_table(data).to_pylist(),
                                                               default=str).encode()
    return found


async def test_an_erased_entity_is_in_no_segment_no_snapshot_and_no_document(world: World) -> None:
    await world.send(*range(21))
    # A late label that names only its event, as a correction may.
    await world.label({"event_id": "sale-3", "label": True})
    await world.stored(21, 12)
    snapshot = await world.snapshot()
    assert b"buyer-3" in await bytes_of(world.database)
    dry = await world.api.delete("/v1/datasets/shop/entities/buyer-3", params={"dry_run": True})
    assert (dry.status_code, dry.json()) == (200, {"dry_run": True, "rows": 3, "outcomes": 1})
    assert len(await world.ids()) == 21
    asked = await world.api.delete("/v1/datasets/shop/entities/buyer-3")
    job = await world.done(asked)
    assert (job["state"], job["result"]) == ("DONE", {"rows": 3, "outcomes": 2, "snapshots": 1})
    left = [f"sale-{number}" for number in range(21) if number % 7 != 3]
    assert await world.ids() == left == await world.ids(snapshot=snapshot)
    told = (await world.api.get(f"/v1/datasets/shop/snapshots/{snapshot}")).json()
    assert (told["rows"], told["rows_taken"]) == (18, 21)
    assert [(one["rows"], one["job_id"]) for one in told["erased"]] == [(3, job["job_id"])]
    everything = await bytes_of(world.database)
    assert b"buyer-3" not in everything and b"sale-10" not in everything and b"buyer-2" in everything
    now = await world.dataset()
    assert (now["rows"], now["outcomes"]) == (18, 10)
    assert await world.snapshot() != snapshot, "other rows, another id"


async def test_the_person_is_named_in_no_command_and_no_audit_record(world: World) -> None:
    await world.send(*range(7))
    asked = await world.api.delete("/v1/datasets/shop/entities/buyer-3")
    await world.done(asked)
    salt = await Salts(world.database).of("shop")
    assert asked.json()["entity_key"] == entity_key(salt, "buyer-3")
    for topic in (Topic.DATA_COMMANDS, Topic.AUDIT):
        values = b"".join(record.value or b"" for record in await world.gateway.records(topics.name(topic)))
        assert b"buyer-3" not in values and entity_key(salt, "buyer-3").encode() in values


async def test_rows_that_are_still_on_the_log_do_not_come_back(world: World) -> None:
    await world.send(*range(7))
    await world.done(await world.api.delete("/v1/datasets/shop/entities/buyer-3"))
    await world.api.post("/v1/pipelines/shop/events", json=[
        {"event_id": "sale-100", "customer": "buyer-3", "price": 1.0},
        {"event_id": "sale-101", "customer": "buyer-4", "price": 1.0}])
    # By its event alone: the label of an erased event is known by the event's key.
    await world.label({"event_id": "sale-3", "label": True}, {"event_id": "sale-5", "label": True})
    await world.stored(7, 5)
    assert await world.ids() == ["sale-0", "sale-1", "sale-2", "sale-4", "sale-5", "sale-6", "sale-101"]
    assert b"sale-3" not in await bytes_of(world.database)


async def test_erasing_again_or_nobody_takes_nothing(world: World) -> None:
    await world.send(*range(7))
    for entity, rows in (("buyer-3", 1), ("buyer-3", 0), ("nobody/at all", 0)):
        job = await world.done(await world.api.delete(f"/v1/datasets/shop/entities/{entity}"))
        assert job["result"] == {"rows": rows, "outcomes": 0, "snapshots": 0}
    jobs = (await world.api.get("/v1/datasets/shop/jobs")).json()
    assert len(jobs) == 3 and {one["state"] for one in jobs} == {"DONE"}


class Killed(BaseException):
    """The process ends here."""


class Dying(MemoryDatabase):
    """A database whose client is killed at its n-th write."""

    def __init__(self, source: MemoryDatabase, lives: int) -> None:
        super().__init__()
        self._collections = source._collections
        self.lives = lives

    def collection(self, name: str) -> MemoryDocuments:
        inner, dying = super().collection(name), self

        class Wrapped(MemoryDocuments):
            def __init__(self) -> None:
                super().__init__(name)
                self.unique, self._documents = inner.unique, inner._documents

            async def insert(self, document: Document) -> bool:
                dying.count()
                return await super().insert(document)

            async def put(self, document: Document) -> None:
                dying.count()
                await super().put(document)

            async def swap(self, key: str, expected: Any, changes: Document) -> bool:
                dying.count()
                return await super().swap(key, expected, changes)

            async def delete(self, match: Any) -> int:
                dying.count()
                return await super().delete(match)

        return Wrapped()

    def count(self) -> None:
        self.lives -= 1
        if self.lives < 0:
            raise Killed


async def test_an_erasure_killed_at_any_write_is_finished_by_the_next(world: World) -> None:
    await world.send(*range(14))
    snapshot = await world.snapshot()
    salt = await Salts(world.database).of("shop")
    clock = SystemClock()  # What stands beside it forgets by the same clock whom it need not keep out any more.
    for entity in range(3):
        command = DataCommand(command_id=f"erase-{entity}", pipeline="shop",
                              entity_key=entity_key(salt, f"buyer-{entity}"))

        async def progress(done: int, total: int) -> None:
            assert 0 <= done <= total

        result: dict[str, Any] = {}
        # Killed at its first write, the next time at its second, until it lives long enough.
        for lives in itertools.count():
            dying = Dying(world.database, lives)
            try:
                result = await Erasing(dying, Forgetting(dying), clock).erase(command, progress)
                break
            except Killed:
                assert lives < 100
        assert lives > 3 and (result["rows"], result["snapshots"]) == (2, 1)
        read = await world.ids()
        assert read == [f"sale-{number}" for number in range(14) if number % 7 > entity] == await world.ids(
            snapshot=snapshot)
    erased = (await Snapshots(world.database).get(snapshot)).erased
    assert [one.rows for one in erased] == [2, 2, 2]
    assert b"buyer-1" not in await bytes_of(world.database)


async def test_what_cannot_be_read_fails_the_job_after_everything_else_is_done(world: World) -> None:
    await world.send(*range(7))
    await world.send(*range(10, 17))
    segments = await Upkeep(world.database).segments("shop", "features", 1)
    broken = next(one for one in segments if one.rows)
    await Artifacts(world.database).delete(broken.digest)
    job = await world.done(await world.api.delete("/v1/datasets/shop/entities/buyer-3"))
    assert job["state"] == "FAILED" and "cannot be read" in job["reason"] and "backup" in job["reason"]
    for segment in await Upkeep(world.database).segments("shop", "features", 1):
        if segment.id != broken.id:
            table = features.decode_table(await Artifacts(world.database).get(segment.digest))
            assert "buyer-3" not in table.column("_entity").to_pylist()


async def test_a_writer_that_outran_the_list_takes_the_rows_out_again(world: World) -> None:
    """A writer reads the list, stands still, and writes after the erasure was done: it settles what it wrote."""
    await world.send(*range(2))
    (segment, *_) = (one for one in await Upkeep(world.database).segments("shop", "features") if one.rows)
    table = features.decode_table(await Artifacts(world.database).get(segment.digest))
    entity = table.column("_entity").to_pylist()[0]
    key = entity_key(await Salts(world.database).of("shop"), entity)
    spec = Spec(parse(PIPELINE), 1, 1, 2)
    keeping = Keeping(world.database, lambda: spec, Forgetting(world.database), FakeClock())
    append = keeping._segments.append

    async def slow(*arguments: Any, **named: Any) -> None:
        await Erasures(world.database).add("shop", "job", key, 1e12)
        await append(*arguments, **named)

    monkey = pytest.MonkeyPatch()
    with monkey.context() as patched:
        patched.setattr(keeping._segments, "append", slow)
        place = (segment.partition, segment.next, segment.next + 5)
        await keeping.keep_features(*place, [features.encode_batch(table.to_batches()[0])])
    written = await Upkeep(world.database).at("shop", "features", 1, segment.partition, segment.next)
    assert written is not None and (written.rows, written.erased_rows) == (table.num_rows - 1, 1)
    # The one before was written by somebody who was killed: the next writer of the chain settles its last segment.
    last = await Upkeep(world.database).last("shop", "features", 1, segment.partition)
    assert last is not None and last.erasures == 1
    await world.database.collection("segments").delete({"_id": written.id})
    assert await keeping.next_offset("features", segment.partition) == segment.next + 5
    settled = await Upkeep(world.database).at("shop", "features", 1, segment.partition, segment.first)
    assert settled is not None and (settled.rows, settled.erased_rows) == (segment.rows - 1, 1)
    counted = {(removed, job) for _, removed, job, _ in (await Upkeep(world.database).rewrites("shop")).values()}
    assert counted == {(1, "job")}, "what a writer takes out late is of the newest erasure"


def test_the_logs_have_forgotten_before_the_list_does() -> None:
    assert logs_forget_after_s() > 7 * 86_400
