"""How a pipeline comes to be, changes and ends."""

from pathlib import Path

from lepton.bus.memory import MemoryBroker
from lepton.bus.records import TopicPlan
from lepton.clock import SystemClock
from lepton.contracts import topics
from lepton.contracts.pipeline import parse
from lepton.contracts.topics import Topic
from lepton.store.memory import MemoryDatabase
from lepton.store.pipelines import Pipelines, SourceBoard
from tests.harness.wait import apoll_until
from tests.unit.gateway.house import PIPELINE, House, open_house
from tests.unit.gateway.test_access import assert_problem


async def announced(house: House, version: int) -> None:
    async def probe() -> bool:
        return any(state.version == version for state in await house.messages(Topic.PIPELINES))
    await apoll_until(probe, f"version {version} on lepton-pipelines", 5)


async def test_applying_makes_topics_then_announces(house: House) -> None:
    response = await house.apply()
    assert response.status_code == 201
    said = response.json()
    assert (said["name"], said["version"], said["generation"], said["partitions"], said["changed"]) == (
        "shop", 1, 1, 4, True)
    assert said["spec"]["events"]["fields"]["price"]["type"] == "float"
    wanted = [name for name, *_ in topics.plans("shop", 1, 4)]
    described = await house.broker.describe_topics(wanted)
    assert sorted(described) == sorted(wanted)
    assert described["lepton-events-shop"].partitions == 4
    await announced(house, 1)
    (state,) = await house.messages(Topic.PIPELINES)
    assert (state.name, state.partitions, state.applied_by) == ("shop", 4, said["applied_by"])


async def test_the_same_again_changes_nothing_and_a_change_is_a_new_version(house: House) -> None:
    await house.apply()
    again = await house.apply()
    assert (again.status_code, again.json()["version"], again.json()["changed"]) == (200, 1, False)
    changed = await house.apply(PIPELINE + "gate: {metric: accuracy, at_least: 0.6}\n")
    assert (changed.status_code, changed.json()["version"], changed.json()["changed"]) == (200, 2, True)
    await announced(house, 2)


async def test_every_mistake_comes_back_at_once_with_its_line(house: House) -> None:
    broken = PIPELINE.replace("type: float", "type: flaot").replace("partitions: 4", "partitions: none")
    response = await house.apply(broken)
    assert_problem(response, 422)
    problems = {one["path"]: one for one in response.json()["problems"]}
    assert problems["events.fields.price.type"]["line"] == 9
    assert problems["events.partitions"]["line"] == 7
    assert await house.messages(Topic.PIPELINES) == []
    assert_problem(await house.admin.post("/v1/pipelines", content=b"\xff\xfe"), 400, field="body")
    checked = (await house.admin.post("/v1/pipelines/validate", content=broken)).json()
    assert checked["valid"] is False
    assert len(checked["problems"]) == len(problems)
    assert (await house.admin.post("/v1/pipelines/validate", content=PIPELINE)).json()["valid"] is True


async def test_an_incompatible_change_needs_a_new_generation(house: House) -> None:
    await house.apply()
    other = PIPELINE.replace("price: {type: float, range: [0, 1000]}", "price: {type: int}")
    refused = await house.apply(other)
    assert_problem(refused, 409, field="generation")
    assert refused.json()["problems"][0]["message"] == "field price changes from float to int"
    accepted = (await house.apply(other, new_generation=True)).json()
    assert (accepted["version"], accepted["generation"]) == (2, 2)
    assert "lepton-events-shop-g2" in await house.broker.list_topics()


async def test_every_reason_against_a_change_is_told_before_and_when_it_is_applied(house: House) -> None:
    assert (await house.admin.post("/v1/pipelines/validate", content=PIPELINE)).json()["needs_new_generation"] == []
    await house.apply()
    other = PIPELINE.replace("price: {type: float, range: [0, 1000]}", "price: {type: int, required: true}\n"
                             "    heat: {type: float, required: true}")
    wanted = ["field heat is new and required: stored rows have none", "field price changes from float to int"]
    checked = (await house.admin.post("/v1/pipelines/validate", content=other)).json()
    assert checked["needs_new_generation"] == wanted
    refused = await house.apply(other)
    assert_problem(refused, 409, field="generation")
    assert [one["message"] for one in refused.json()["problems"]] == wanted
    assert (await house.admin.post("/v1/pipelines/validate", content=PIPELINE)).json()["needs_new_generation"] == []


async def test_units_that_cannot_be_converted_are_refused_with_their_line(house: House) -> None:
    wrong = PIPELINE.replace("price: {type: float,",
                             "price: {type: float, unit: degC, accept_units: [degF, kg, sheep],")
    response = await house.apply(wrong)
    assert_problem(response, 422)
    assert [(one["path"], one["line"]) for one in response.json()["problems"]] == [
        ("events.fields.price.accept_units[1]", 9), ("events.fields.price.accept_units[2]", 9)]


async def test_a_change_of_partitions_needs_a_new_generation_too(house: House) -> None:
    await house.apply()
    assert_problem(await house.apply(PIPELINE.replace("partitions: 4", "partitions: 6")), 409)
    wider = await house.apply(PIPELINE.replace("partitions: 4", "partitions: 6"), new_generation=True)
    assert wider.json()["partitions"] == 6


async def test_a_deleted_pipeline_is_gone_until_it_is_applied_again(house: House) -> None:
    await house.apply()
    assert (await house.admin.delete("/v1/pipelines/shop")).status_code == 204
    assert_problem(await house.admin.get("/v1/pipelines/shop"), 404)
    assert (await house.admin.get("/v1/pipelines")).json() == []
    await announced(house, 2)
    assert (await house.messages(Topic.PIPELINES))[-1].deleted
    back = await house.apply()
    assert (back.status_code, back.json()["version"]) == (201, 3)


async def test_an_exported_pipeline_applies_as_the_same(house: House) -> None:
    await house.apply()
    exported = (await house.admin.get("/v1/pipelines/shop/export")).text
    assert exported.startswith("apiVersion: lepton/v1")
    assert (await house.apply(exported)).json()["changed"] is False


async def test_pipelines_are_known_again_after_a_restart(tmp_path: Path) -> None:
    broker, database = MemoryBroker(), MemoryDatabase()
    async with open_house(tmp_path, broker, database) as first:
        await first.apply()
    async with open_house(tmp_path, broker, database) as second:
        assert (await second.admin.get("/v1/pipelines/shop")).json()["version"] == 1
        assert (await second.apply()).json()["changed"] is False


async def test_a_pipeline_another_gateway_applied_is_known_from_the_database_until_the_topic_tells(
        house: House) -> None:
    pipeline = parse(PIPELINE)
    await house.broker.create_topics([TopicPlan(*plan) for plan in topics.plans("shop", 1, 4)])
    await Pipelines(house.database, SystemClock()).apply(
        "shop", pipeline.canonical_json(), pipeline.digest(), 1, pipeline.partitions, "another")
    response = await house.admin.post("/v1/pipelines/shop/events", json={"event_id": "e", "customer": "c"})
    assert response.status_code == 202
    assert (await house.admin.get("/v1/pipelines/shop")).json()["applied_by"] == "another"


async def test_what_does_not_exist_is_named(house: House) -> None:
    for path in ("/v1/pipelines/none", "/v1/pipelines/none/export", "/v1/pipelines/none/rows",
                 "/v1/pipelines/none/quality", "/v1/pipelines/none/dead-letters", "/v1/models/none",
                 "/v1/runs/none", "/v1/incidents/none", "/v1/nothing"):
        assert_problem(await house.admin.get(path), 404)
    assert_problem(await house.admin.put("/v1/pipelines"), 405)


async def test_repartitioning_moves_the_pipeline_to_topics_of_a_new_generation(house: House) -> None:
    await house.apply()
    moved = await house.admin.post("/v1/pipelines/shop/repartition", json={"partitions": 6})
    assert moved.status_code == 200, moved.text
    said = moved.json()
    assert (said["generation"], said["partitions"], said["version"], said["drained"]) == (2, 6, 2, True)
    assert said["spec"]["events"]["partitions"] == 6
    described = await house.broker.describe_topics(["lepton-events-shop", "lepton-events-shop-g2"])
    assert [one.partitions for _, one in sorted(described.items())] == [4, 6]
    await announced(house, 2)
    (state,) = [one for one in await house.messages(Topic.PIPELINES) if one.version == 2]
    assert state.rows_since_generation == 1
    assert_problem(await house.admin.post("/v1/pipelines/shop/repartition", json={"partitions": 6}), 409,
                   field="partitions")
    assert_problem(await house.admin.post("/v1/pipelines/shop/repartition", json={"partitions": 0}), 422)
    assert_problem(await house.admin.post("/v1/pipelines/nowhere/repartition", json={"partitions": 6}), 404)


PULLING = PIPELINE + """\
sources:
  pull:
    - {name: orders, kind: sql, url_from: LEPTON_SOURCE_SHOP, table: orders, cursor: id}
    - {name: visits, kind: http, url: "https://api.test/visits"}
"""


async def test_sources_are_shown_as_their_owner_said_last(house: House) -> None:
    assert (await house.apply(PULLING)).status_code == 201
    assert (await house.admin.get("/v1/pipelines/nowhere/sources")).status_code == 404
    board, now_s = SourceBoard(house.database), SystemClock().now().timestamp()
    said = {"state": "following", "cursor": "17", "events": 17, "refused": 1, "lag": 0, "unit": "rows", "reason": "",
            "error": "no route", "error_at_s": now_s, "moved_at_s": now_s, "instance": "ingest", "kind": "sql"}
    assert await board.put("shop", 1, "orders", 2, {**said, "at_s": now_s})
    orders, visits = (await house.admin.get("/v1/pipelines/shop/sources")).json()
    assert (orders["name"], orders["state"], orders["cursor"], orders["events"], orders["last_error"]) == (
        "orders", "following", "17", 17, "no route")
    assert orders["moved_at"].startswith("20")
    assert (visits["state"], visits["events"], visits["last_error_at"]) == ("not pulled yet", 0, None)
    assert await board.put("shop", 1, "orders", 2, {**said, "at_s": now_s - 60})
    assert (await house.admin.get("/v1/pipelines/shop/sources")).json()[0]["state"] == "silent"


async def test_a_source_that_would_read_from_another_place_is_incompatible(house: House) -> None:
    await house.apply(PULLING)
    refused = await house.apply(PULLING.replace("table: orders", "table: others"))
    assert_problem(refused, 409)
    assert "reads from another place" in refused.text
    assert (await house.apply(PULLING.replace("name: orders", "name: others"))).status_code == 200
