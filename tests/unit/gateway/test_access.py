"""Who may come in, what they may do, and how often."""

import hashlib
import stat
from pathlib import Path

import httpx
import pytest

from lepton.contracts.topics import Topic
from lepton.errors import Unavailable
from lepton.store.keys import Keys
from lepton.store.memory import MemoryDatabase, MemoryDocuments
from tests.unit.gateway.house import House, open_house


def assert_problem(response: httpx.Response, status: int, **members: str) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    said = response.json()
    assert said["status"] == status
    assert said["request_id"] == response.headers["x-request-id"]
    assert {name: said.get(name) for name in members} == members


async def test_the_first_key_is_an_admin_key_that_only_its_owner_can_read(house: House) -> None:
    file = house.settings.bootstrap_file
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    (key,) = (await house.admin.get("/v1/keys")).json()
    assert key["key_id"] == file.read_text().split(".")[0]
    assert key["scopes"] == ["admin"]
    assert not {"salt", "secret_sha256"} & set(key)


async def test_a_second_start_keeps_the_first_key_and_makes_no_other(tmp_path: Path) -> None:
    database = MemoryDatabase()
    async with open_house(tmp_path, database=database) as first:
        made = first.settings.bootstrap_file.read_text()
    async with open_house(tmp_path, database=database) as second:
        assert second.settings.bootstrap_file.read_text() == made
        assert len((await second.admin.get("/v1/keys")).json()) == 1


async def test_a_start_that_was_killed_before_it_showed_the_key_is_finished_by_the_next(tmp_path: Path) -> None:
    database = MemoryDatabase()
    async with open_house(tmp_path, database=database) as first:
        file = first.settings.bootstrap_file
        key = file.read_text()
    file.rename(file.with_name(f".{file.name}.{key.split('.')[0]}"))
    async with open_house(tmp_path, database=database) as second:
        assert file.read_text() == key
        assert (await second.admin.get("/v1/keys")).status_code == 200


async def test_without_a_valid_key_nothing_is_answered_but_health(house: House) -> None:
    for key in ("", "nonsense", f"lk_{'0' * 16}.{'A' * 43}"):
        client = house.client(key)
        refused = await client.get("/v1/models")
        assert_problem(refused, 401, field="authorization")
        assert refused.headers["www-authenticate"].startswith("Bearer")
        assert (await client.post("/v2/models/shop/infer", content=b"{}")).json().keys() == {"error"}
        assert (await client.get("/v2/health/live")).status_code == 200
        assert (await client.get("/openapi.json")).status_code == 200


async def test_a_wrong_secret_is_refused_like_an_unknown_key(house: House) -> None:
    key_id = house.settings.bootstrap_file.read_text().split(".")[0]
    wrong = await house.client(f"{key_id}.{'A' * 43}").get("/v1/models")
    unknown = await house.client(f"lk_{'0' * 16}.{'A' * 43}").get("/v1/models")
    assert wrong.json()["detail"] == unknown.json()["detail"]


async def test_a_key_may_do_what_its_scopes_say_and_the_refusal_names_what_it_lacks(house: House) -> None:
    reader = await house.with_scopes("read")
    assert (await reader.get("/v1/pipelines")).status_code == 200
    assert_problem(await reader.post("/v1/pipelines", content="x"), 403, field="scope")
    refused = await reader.post("/v1/models/shop/predict", json={"rows": [{}]})
    assert_problem(refused, 403, remedy="use a key with the scope `predict`")
    assert_problem(await reader.post("/v1/models/shop/train", json={}), 403, field="scope")
    assert_problem(await reader.get("/v1/keys"), 403, field="scope")


async def test_a_revoked_key_is_refused_at_once_and_no_key_revokes_itself(house: House) -> None:
    reader = await house.with_scopes("read")
    assert (await reader.get("/v1/models")).status_code == 200
    keys = (await house.admin.get("/v1/keys")).json()
    own, other = sorted(keys, key=lambda key: key["scopes"] != ["admin"])
    assert (await house.admin.delete(f"/v1/keys/{other['key_id']}")).status_code == 204
    assert_problem(await reader.get("/v1/models"), 401)
    assert_problem(await house.admin.delete(f"/v1/keys/{own['key_id']}"), 409, field="key_id")
    assert_problem(await house.admin.delete("/v1/keys/lk_gone"), 404)


async def test_a_key_known_good_stays_good_while_the_database_is_away(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_house(tmp_path, key_cache_s=0) as house:
        assert (await house.admin.get("/v1/models")).status_code == 200

        async def away(self: MemoryDocuments, key: str) -> None:
            raise Unavailable("the database is away")

        monkeypatch.setattr(MemoryDocuments, "get", away)
        assert (await house.admin.get("/v1/models")).status_code == 200
        unknown = await house.client(f"lk_{'0' * 16}.{'A' * 43}").get("/v1/models")
        assert_problem(unknown, 503)
        assert unknown.headers["retry-after"] == "1"


async def test_a_key_that_asks_too_often_is_told_when_to_come_back(tmp_path: Path) -> None:
    async with open_house(tmp_path, rate_per_s=0.01, rate_burst=3) as house:
        answers = [await house.admin.get("/v1/models") for _ in range(4)]
        assert [one.status_code for one in answers] == [200, 200, 200, 429]
        assert 90 <= int(answers[-1].headers["retry-after"]) <= 100
        assert_problem(answers[-1], 429)


async def test_when_every_key_is_revoked_the_next_start_says_what_to_do(
        tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    database = MemoryDatabase()
    async with open_house(tmp_path, database=database) as house:
        (key,) = (await house.admin.get("/v1/keys")).json()
        await Keys(database).revoke(key["key_id"])
    async with open_house(tmp_path, database=database) as house:
        assert_problem(await house.admin.get("/v1/keys"), 401)
    assert "nobody can come in" in caplog.text


async def test_a_failure_nobody_foresaw_is_answered_without_telling_what_it_was(
        house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    async def broken(self: Keys) -> None:
        raise ZeroDivisionError("a secret of the database")

    monkeypatch.setattr(Keys, "list", broken)
    failed = await house.admin.get("/v1/keys", headers={"x-request-id": "r-500"})
    assert failed.status_code == 500
    assert failed.json()["request_id"] == "r-500"
    assert "secret" not in failed.text
    assert "ZeroDivisionError" in caplog.text and "r-500" in [getattr(one, "request_id", "") for one in caplog.records]


async def test_every_change_is_in_the_audit_chain(house: House) -> None:
    await house.apply()
    await house.with_scopes("read")
    await house.admin.delete("/v1/pipelines/shop")
    records = await house.messages(Topic.AUDIT)
    assert [record.action for record in records] == ["pipeline.apply", "key.create", "pipeline.delete"]
    assert [record.sequence for record in records] == [1, 2, 3]
    assert {record.actor for record in records} == {house.settings.bootstrap_file.read_text().split(".")[0]}
    before = b""
    for record in records:
        assert record.previous_hash == before
        before = hashlib.sha256(record.SerializeToString(deterministic=True)).digest()
