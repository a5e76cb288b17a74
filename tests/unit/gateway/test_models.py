"""Models, runs and commands: what is shown, what is asked of the trainer and of those who heal."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from lepton.bus.memory import MemoryBroker
from lepton.clock import SystemClock
from lepton.contracts import signing
from lepton.contracts.pb import incidents_pb2, models_pb2, recovery_pb2, telemetry_pb2, training_pb2
from lepton.contracts.topics import Topic
from lepton.errors import Missing, Unavailable
from lepton.store.incidents import Incidents
from lepton.store.runs import Runs, run_id_of
from services.gateway.flow import models
from tests.unit.gateway.house import PIPELINE, House, open_house
from tests.unit.gateway.test_access import assert_problem

OPERATOR = "operator"


async def publish(house: House, champion: int = 2, family: str = "logistic_regression") -> None:
    state = models_pb2.ModelState(model="shop", revision=2, champion=champion, previous_champion=1, reason="promoted",
                                  key_id="trainer", signature=b"s")
    for number in (1, 2):
        version = state.versions.add(model="shop", version=number, status=models_pb2.VERSION_STATUS_READY,
                                     key_id="trainer", signature=b"s")
        version.manifest.MergeFrom(models_pb2.ModelManifest(
            model="shop", version=number, family=family, metrics={"accuracy": 0.9},
            task=models_pb2.MODEL_TASK_CLASSIFICATION, sha256="ab" * 32))
        version.manifest.lineage.weights_sha256 = "cd" * 32 if number == 1 else ""
        version.manifest.lineage.parent_version = number - 1
    state.changed_at.GetCurrentTime()
    await house.announce(Topic.MODELS, "shop", state)
    await house.until("/v1/models/shop", lambda said: said.status_code == 200, "the model to be known")


async def test_a_model_is_shown_with_its_manifest_beside_its_status(house: House) -> None:
    assert (await house.admin.get("/v1/models")).json() == []
    await publish(house)
    (model,) = (await house.admin.get("/v1/models")).json()
    assert model == (await house.admin.get("/v1/models/shop")).json()
    assert (model["champion"], model["previous_champion"], model["reason"]) == (2, 1, "promoted")
    version = model["versions"][1]
    assert (version["version"], version["status"], version["task"]) == (2, "READY", "CLASSIFICATION")
    assert (version["metrics"], version["lineage"]["parent_version"]) == ({"accuracy": 0.9}, 1)
    assert "signature" not in model and "signature" not in version


async def test_training_is_asked_for_by_a_command_whose_run_is_known_at_once(house: House) -> None:
    await house.apply()
    response = await house.admin.post("/v1/models/shop/train", json={
        "kind": "fine_tune", "family": "mlp", "parameters": {"epochs": 3}, "max_rows": 500, "promote": False})
    assert response.status_code == 202, response.text
    (command,) = await house.messages(Topic.TRAINING_COMMANDS)
    assert response.json() == {"command_id": command.command_id, "run_id": run_id_of(command.command_id)}
    assert (command.kind, command.model, command.family, command.parameters_json, command.max_rows, command.promote) \
        == (training_pb2.TRAINING_KIND_FINE_TUNE, "shop", "mlp", '{"epochs": 3}', 500, False)
    assert command.issuer == house.settings.bootstrap_file.read_text().split(".")[0]
    run = (await house.admin.get(f"/v1/runs/{response.json()['run_id']}")).json()
    assert (run["state"], run["model"], run["kind"], run["family"]) == ("QUEUED", "shop", "FINE_TUNE", "mlp")


async def test_a_run_can_begin_with_another_models_version(house: House) -> None:
    await publish(house, family="mlp")
    await house.apply(PIPELINE.replace("shop", "stall"))
    response = await house.admin.post("/v1/models/stall/train", json={
        "kind": "fine_tune", "family": "mlp", "parent_model": "shop", "parent_version": 1,
        "transfer": {"freeze": ["layers.0.*"], "head": "replace"}})
    assert response.status_code == 202, response.text
    (command,) = await house.messages(Topic.TRAINING_COMMANDS)
    assert (command.model, command.parent_model, command.parent_version) == ("stall", "shop", 1)
    assert command.transfer_json == '{"freeze": ["layers.0.*"], "head": "replace"}'


@pytest.mark.parametrize(("asked", "why", "remedy"), [
    ({"family": "mlp", "transfer": {"lora": {"rank": 4}}}, "version 2 of shop is a logistic_regression",
     "name a version of a mlp"),
    ({"family": "mlp", "parent_model": "shop", "parent_version": 1}, "version 1 of shop is a logistic_regression",
     "train a mlp first"),
    ({"family": "logistic_regression"}, "version 2 of shop cannot be continued: its weights were not kept",
     "trained here")])
async def test_a_run_that_cannot_begin_where_it_is_to_is_refused_when_it_is_asked_for(
        house: House, asked: dict[str, Any], why: str, remedy: str) -> None:
    await publish(house)
    await house.apply()
    response = await house.admin.post("/v1/models/shop/train", json={"kind": "fine_tune", **asked})
    assert_problem(response, 409)
    assert why in response.json()["detail"]
    assert remedy in response.text
    assert await house.messages(Topic.TRAINING_COMMANDS) == []


async def test_a_search_is_passed_on_and_one_that_cannot_be_is_refused(house: House) -> None:
    await house.apply()
    train = "/v1/models/shop/train"
    asked = await house.admin.post(train, json={"family": "auto", "search": {"trials": 5}})
    assert asked.status_code == 202, asked.text
    (command,) = await house.messages(Topic.TRAINING_COMMANDS)
    assert (command.family, command.search_json) == ("auto", '{"trials": 5}')
    assert_problem(await house.admin.post(train, json={"search": {"trials": 0}}), 422, field="model.search.trials")
    wrong = await house.admin.post(train, json={"family": "mlp", "search": {"ranges": {"seed": {"low": 1, "high": 2}}}})
    assert_problem(wrong, 422, field="model.search.ranges.seed")


async def test_a_command_id_of_the_client_s_own_names_the_run(house: House) -> None:
    await house.apply()
    for _ in range(2):
        said = (await house.admin.post("/v1/models/shop/train", json={"command_id": "mine-1"})).json()
        assert said == {"command_id": "mine-1", "run_id": run_id_of("mine-1")}


async def test_what_cannot_be_trained_is_refused_before_anyone_tries(house: House) -> None:
    train = "/v1/models/shop/train"
    assert_problem(await house.admin.post(train, json={}), 404)
    await house.apply()
    unknown = await house.admin.post(train, json={"family": "oracle"})
    assert_problem(unknown, 422, field="model.family")
    assert_problem(await house.admin.post(train, json={"parameters": {"epocks": 3}}), 422)
    assert_problem(await house.admin.post(train, json={"kind": "guess"}), 422, field="kind")
    assert_problem(await house.admin.post(train, json={"data_pipeline": "none"}), 404)
    begins = {"kind": "fine_tune", "parent_version": 3}
    assert_problem(await house.admin.post(train, json=begins), 404)
    assert_problem(await house.admin.post(train, json={**begins, "kind": "train"}), 422, field="kind")
    assert_problem(await house.admin.post(train, json={**begins, "parent_model": "none"}), 404, field="parent_model")
    misspelt = await house.admin.post(train, json={"kind": "fine_tune", "transfer": {"freze": ["*"]}})
    assert_problem(misspelt, 422, field="model.transfer.freze")
    elsewhere = await house.admin.post(train, json={"kind": "fine_tune", "transfer": {"from": {"model": "a"}}})
    assert_problem(elsewhere, 422, field="transfer.from")
    await house.apply(PIPELINE.replace("shop", "other").replace("price: {type: float, range: [0, 1000]}",
                                                               "weight: {type: float}"))
    assert_problem(await house.admin.post(train, json={"data_pipeline": "other"}), 409, field="data_pipeline")
    await house.apply(PIPELINE.replace("shop", "mute")[:PIPELINE.index("  label:")])
    assert_problem(await house.admin.post("/v1/models/mute/train", json={}), 422, field="events.label")
    assert await house.messages(Topic.TRAINING_COMMANDS) == []
    await house.apply(PIPELINE.replace("shop", "twin"))
    assert (await house.admin.post(train, json={"data_pipeline": "twin"})).status_code == 202


async def test_a_kept_version_can_be_promoted(house: House) -> None:
    await publish(house)
    assert_problem(await house.admin.post("/v1/models/shop/promote", json={"version": 5}), 404, field="version")
    assert (await house.admin.post("/v1/models/shop/promote", json={"version": 1})).status_code == 202
    (command,) = await house.messages(Topic.TRAINING_COMMANDS)
    assert (command.kind, command.parent_version) == (training_pb2.TRAINING_KIND_PROMOTE, 1)


async def test_runs_are_listed_newest_first_and_can_be_cancelled(house: House) -> None:
    runs = Runs(house.database, SystemClock())
    for number, model in enumerate(("shop", "other", "shop")):
        await runs.enqueue(training_pb2.TrainingCommand(command_id=f"c-{number}", model=model, reason="rows",
                                                        kind=training_pb2.TRAINING_KIND_TRAIN))
    listed = (await house.admin.get("/v1/runs", params={"model": "shop"})).json()
    assert [(one["command_id"], one["state"], one["kind"]) for one in listed] == [
        ("c-2", "QUEUED", "TRAIN"), ("c-0", "QUEUED", "TRAIN")]
    run_id = run_id_of("c-1")
    assert (await house.admin.post(f"/v1/runs/{run_id}/cancel")).json()["run_id"] == run_id
    (command,) = await house.messages(Topic.TRAINING_COMMANDS)
    assert (command.kind, command.cancel_run_id, command.model) == (
        training_pb2.TRAINING_KIND_CANCEL, run_id, "other")


async def test_how_a_run_went_is_read_point_by_point(house: House) -> None:
    runs = Runs(house.database, SystemClock())
    await runs.enqueue(training_pb2.TrainingCommand(command_id="c-0", model="shop"))
    path = f"/v1/runs/{run_id_of('c-0')}/course"
    assert (await house.admin.get(path)).json() == {"run_id": run_id_of("c-0"), "points": []}
    claimed = await runs.claim("trainer", 10)
    assert claimed is not None
    point = training_pb2.CoursePoint(epoch=1, figures={"training_loss": 0.5})
    point.at.FromJsonString("2026-01-01T09:00:00Z")
    await runs.keep_course(claimed.run_id, claimed.fence, training_pb2.TrainingCourse(points=[point]))
    assert (await house.admin.get(path)).json()["points"] == [
        {"epoch": 1, "at": "2026-01-01T09:00:00Z", "stage": "", "figures": {"training_loss": 0.5}}]
    assert_problem(await house.admin.get("/v1/runs/run-none/course"), 404)


async def test_a_run_that_is_over_is_not_cancelled(house: House) -> None:
    runs = Runs(house.database, SystemClock())
    await runs.enqueue(training_pb2.TrainingCommand(command_id="c-0", model="shop"))
    await runs.cancel(run_id_of("c-0"))
    refused = await house.admin.post(f"/v1/runs/{run_id_of('c-0')}/cancel")
    assert_problem(refused, 409, field="run_id")
    assert await house.messages(Topic.TRAINING_COMMANDS) == []


async def test_a_priority_goes_with_the_command(house: House) -> None:
    await house.apply()
    assert_problem(await house.admin.post("/v1/models/shop/train", json={"priority": 101}), 422, field="priority")
    asked = await house.admin.post("/v1/models/shop/train", json={"priority": 30})
    (command,) = await house.messages(Topic.TRAINING_COMMANDS)
    assert command.priority == 30
    assert (await house.admin.get(f"/v1/runs/{asked.json()['run_id']}")).json()["priority"] == 30


def operator_keys(folder: Path) -> signing.TrustStore:
    identity = signing.Identity.create(folder / "keys", OPERATOR)
    now = SystemClock().now()
    key = signing.TrustedKey(OPERATOR, identity.public_bytes(), frozenset({OPERATOR}), now, now + timedelta(days=1))
    return signing.TrustStore({OPERATOR: key})


async def test_a_roll_back_is_a_signed_command_to_leave_the_champion(tmp_path: Path) -> None:
    trust = operator_keys(tmp_path)
    async with open_house(tmp_path) as house:
        await publish(house)
        assert_problem(await house.admin.post("/v1/models/shop/rollback", json={"from_version": 1}), 409)
        said = await house.admin.post("/v1/models/shop/rollback", json={})
        assert said.status_code == 202, said.text
        (command,) = await house.messages(Topic.RECOVERY_COMMANDS)
        assert (command.command_id, command.target, dict(command.arguments)) == (
            said.json()["command_id"], "model:shop", {"from_version": "2"})
        assert command.action == recovery_pb2.RECOVERY_ACTION_ROLL_BACK
        signing.verify_message(trust, "operator", command, SystemClock().now())
        lives_s = (command.expires_at.ToDatetime() - command.issued_at.ToDatetime()).total_seconds()
        assert lives_s == 120


async def test_an_operator_s_order_is_signed_and_its_result_is_shown(tmp_path: Path) -> None:
    trust = operator_keys(tmp_path)
    async with open_house(tmp_path) as house:
        order: dict[str, Any] = {"action": "RESTART", "target": "instance:predictor-0", "arguments": {"grace_s": "5"}}
        said = (await house.admin.post("/v1/recovery", json=order)).json()
        assert (said["action"], said["executor"], said["issuer"]) == (
            "RESTART", "actuator", f"operator:{house.settings.bootstrap_file.read_text().split('.')[0]}")
        assert "signature" not in said
        (command,) = await house.messages(Topic.RECOVERY_COMMANDS)
        signing.verify_message(trust, "operator", command, SystemClock().now())
        for wrong in ({"target": "predictor-0"}, {"target": "planet:earth"}, {"action": "EXPLODE"}):
            assert_problem(await house.admin.post("/v1/recovery", json=order | wrong), 422)
        result = recovery_pb2.RecoveryResult(
            command_id=command.command_id, target=command.target, outcome=recovery_pb2.RECOVERY_OUTCOME_DONE,
            evidence="started with pid 4711", executor="actuator")
        result.at.GetCurrentTime()
        await house.announce(Topic.RECOVERY_RESULTS, command.command_id, result)
        (shown,) = (await house.admin.get("/v1/recovery")).json()
        assert (shown["outcome"], shown["evidence"]) == ("DONE", "started with pid 4711")
        assert_problem(await (await house.with_scopes("train")).post("/v1/recovery", json=order), 403)


async def test_a_person_s_word_on_what_an_incident_asks_is_a_signed_command_about_its_step(tmp_path: Path) -> None:
    trust = operator_keys(tmp_path)
    async with open_house(tmp_path) as house:
        incident = incidents_pb2.Incident(
            incident_id="inc-1", state=incidents_pb2.INCIDENT_STATE_ESCALATED, symptom="quality_loss",
            target="model:shop", awaiting="retrain", command_ids=["inc-1-1"])
        incident.opened_at.GetCurrentTime()
        incident.approve_by.FromSeconds(incident.opened_at.seconds + 600)
        stored = await Incidents(house.database).open(incident, "quality_loss:model:shop")
        for word, action in (("approve", recovery_pb2.RECOVERY_ACTION_APPROVE),
                             ("deny", recovery_pb2.RECOVERY_ACTION_DENY)):
            said = await house.admin.post(f"/v1/incidents/inc-1/{word}", json={})
            assert (said.status_code, said.json()["awaiting"]) == (202, "retrain"), said.text
            command = (await house.messages(Topic.RECOVERY_COMMANDS))[-1]
            signing.verify_message(trust, "operator", command, SystemClock().now())
            assert (command.action, command.target, dict(command.arguments)) == (
                action, "incident:inc-1", {"rung": "1"})
        assert_problem(await (await house.with_scopes("read")).post("/v1/incidents/inc-1/approve", json={}), 403)
        assert_problem(await house.admin.post("/v1/incidents/inc-2/approve", json={}), 404)
        assert_problem(await house.admin.post("/v1/incidents/inc-1/shrug", json={}), 422)
        stored.awaiting = ""
        await Incidents(house.database).advance(stored)
        assert_problem(await house.admin.post("/v1/incidents/inc-1/approve", json={}), 409, field="awaiting")


async def test_without_an_operator_identity_orders_are_refused_and_all_else_works(house: House) -> None:
    refused = await house.admin.post("/v1/recovery", json={"action": "RESTART", "target": "instance:x"})
    assert_problem(refused, 409, field="keys_dir")


async def test_incidents_and_instances_are_shown(house: House) -> None:
    incident = incidents_pb2.Incident(
        incident_id="inc-1", state=incidents_pb2.INCIDENT_STATE_COMMANDED, symptom="silence",
        target="instance:predictor-0", timeline=[incidents_pb2.IncidentEvent(what="commanded", detail="restart")])
    incident.opened_at.GetCurrentTime()
    await Incidents(house.database).open(incident, "silence:predictor-0")
    (shown,) = (await house.admin.get("/v1/incidents")).json()
    assert (shown["state"], shown["symptom"], shown["timeline"][0]["detail"]) == ("COMMANDED", "silence", "restart")
    assert shown == (await house.admin.get("/v1/incidents/inc-1")).json()
    (own,) = (await house.admin.get("/v1/instances")).json()
    assert (own["instance"], own["service"], own["address"], own["silent"]) == (
        "gateway", "gateway", house.address, False)


async def test_one_page_has_the_state_of_everything_and_names_what_cannot_be_asked(house: House) -> None:
    await house.apply()
    await publish(house)
    old = telemetry_pb2.Instance(instance="ingest", service="ingest", boot_id="b",
                                 state=telemetry_pb2.INSTANCE_STATE_READY)
    old.at.FromSeconds(1_700_000_000)
    await house.announce(Topic.INSTANCES, "ingest", old)
    await house.admin.post("/v1/pipelines/shop/events", json={"event_id": "e", "customer": "c"})
    said = (await house.until("/v1/status", lambda said: "ingest" in str(said.json()["instances"]), "ingest")).json()
    assert {one["instance"]: (one["state"], one["silent"]) for one in said["instances"]} == {
        "gateway": ("READY", False), "ingest": ("READY", True)}
    assert [one["name"] for one in said["pipelines"]] == ["shop"]
    assert said["models"] == [{"model": "shop", "champion": 2, "previous": 1, "versions": 2, "reason": "promoted"}]

    async def lag() -> int:
        status = (await house.admin.get("/v1/status")).json()
        found: int = {one["topic"]: one["records"] for one in status["lags"]}.get("lepton-events-shop", -1)
        return found

    assert await lag() in (0, 1), "at most two seconds old"
    assert {(one["group"], one["topic"]) for one in said["lags"]} == {
        ("ingest.shop", "lepton-events-shop"), ("ingest.shop", "lepton-labels-shop"),
        ("predictor.shop", "lepton-features-shop")}
    assert said["problems"] == []

async def test_a_part_that_is_away_does_not_hide_the_rest(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(self: Incidents, limit: int) -> None:
        raise Unavailable("the database is away")

    async def no_group(self: MemoryBroker, group: str) -> None:
        raise Missing("there is no group")

    await house.apply()
    monkeypatch.setattr(Incidents, "list", away)
    monkeypatch.setattr(MemoryBroker, "group_offsets", no_group)
    said = (await house.admin.get("/v1/status")).json()
    assert said["problems"] == ["there is no group", "the database is away"]
    assert said["pipelines"] and said["instances"]
    assert_problem(await house.admin.get("/v1/incidents"), 503)


async def test_a_run_asked_for_is_forgotten_when_the_trainer_never_queued_it(
        house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    await house.apply()
    run_id = (await house.admin.post("/v1/models/shop/train", json={})).json()["run_id"]
    monkeypatch.setattr(models, "ASKED_S", -1.0)
    assert_problem(await house.admin.get(f"/v1/runs/{run_id}"), 404)
    monkeypatch.setattr(models, "MAX_ASKED", 1)
    assert (await house.admin.post("/v1/models/shop/train", json={})).status_code == 202
