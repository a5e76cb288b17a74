"""Versions that exist: what a person may ask to become of them, and who was in production when and why."""

from lepton.contracts.pb import models_pb2, telemetry_pb2, training_pb2
from lepton.contracts.topics import Topic
from lepton.store.runs import run_id_of
from tests.unit.gateway.house import House
from tests.unit.gateway.test_access import assert_problem
from tests.unit.gateway.test_models import publish


async def asked(house: House, path: str, body: object = None) -> training_pb2.TrainingCommand:
    """The command that a post leaves on the topic; its run is known at once."""
    said = await house.admin.post(path, json=body)
    assert said.status_code == 202, said.text
    command: training_pb2.TrainingCommand = (await house.messages(Topic.TRAINING_COMMANDS))[-1]
    assert said.json() == {"command_id": command.command_id, "run_id": run_id_of(command.command_id)}
    assert (await house.admin.get(f"/v1/runs/{said.json()['run_id']}")).json()["state"] == "QUEUED"
    assert (command.model, bool(command.issuer)) == ("shop", True)
    return command


async def test_tags_and_retirement_are_commands_about_a_kept_version(house: House) -> None:
    await publish(house)
    command = await asked(house, "/v1/models/shop/versions/1/tags", {"tags": {"stage": "stable", "old": ""}})
    assert (command.kind, command.parent_version) == (training_pb2.TRAINING_KIND_TAG, 1)
    assert dict(command.tags) == {"stage": "stable", "old": ""}
    command = await asked(house, "/v1/models/shop/versions/1/retire", {"note": "replaced"})
    assert (command.kind, command.parent_version, command.note) \
        == (training_pb2.TRAINING_KIND_RETIRE, 1, "replaced")
    assert (await asked(house, "/v1/models/shop/versions/1/retire")).note == ""
    assert (await asked(house, "/v1/models/shop/collect")).kind == training_pb2.TRAINING_KIND_COLLECT


async def test_a_promotion_carries_its_reason(house: House) -> None:
    await publish(house)
    command = await asked(house, "/v1/models/shop/promote", {"version": 1, "note": "asked for by sales"})
    assert (command.kind, command.parent_version, command.note) \
        == (training_pb2.TRAINING_KIND_PROMOTE, 1, "asked for by sales")


async def test_what_is_not_kept_or_not_allowed_is_refused(house: House) -> None:
    assert_problem(await house.admin.post("/v1/models/shop/collect"), 404)
    await publish(house)
    tags = {"tags": {"stage": "stable"}}
    assert_problem(await house.admin.post("/v1/models/shop/versions/9/tags", json=tags), 404, field="version")
    assert_problem(await house.admin.post("/v1/models/shop/versions/1/tags", json={"tags": {}}), 422)
    assert_problem(await house.admin.post("/v1/models/shop/versions/9/retire"), 404, field="version")
    reader = await house.with_scopes("read")
    assert_problem(await reader.post("/v1/models/shop/versions/1/retire"), 403, field="scope")
    assert await house.messages(Topic.TRAINING_COMMANDS) == []


async def test_the_champions_of_a_model_are_told_oldest_first(house: House) -> None:
    state = models_pb2.ModelState(model="shop", revision=4, champion=2, previous_champion=1, reason="promoted",
                                  key_id="trainer", signature=b"s")
    for number in (1, 2):
        version = state.versions.add(model="shop", version=number, status=models_pb2.VERSION_STATUS_READY,
                                     key_id="trainer", signature=b"s")
        version.manifest.MergeFrom(models_pb2.ModelManifest(
            model="shop", version=number, family="mlp", task=models_pb2.MODEL_TASK_CLASSIFICATION, sha256="ab" * 32))
    first = state.champions.add(version=1, reason="published", by="run-1", note="accuracy 0.9", sha256="ab" * 32)
    first.since.FromJsonString("2026-01-01T00:00:00Z")
    first.until.FromJsonString("2026-01-02T00:00:00Z")
    state.champions.add(version=2, reason="promoted", by="lk_1").since.FromJsonString("2026-01-02T00:00:00Z")
    state.changed_at.FromJsonString("2026-01-02T00:00:00Z")
    await house.announce(Topic.MODELS, "shop", state)
    await house.until("/v1/models/shop", lambda said: said.status_code == 200, "the model to be known")
    told = (await house.admin.get("/v1/models/shop/champions")).json()
    assert [(one["version"], one["reason"], one["by"], one.get("until")) for one in told] \
        == [(1, "published", "run-1", "2026-01-02T00:00:00Z"), (2, "promoted", "lk_1", None)]
    assert (await house.admin.get("/v1/models/shop")).json()["champions"] == told


async def test_a_rollout_is_told_with_what_all_instances_measured_and_ended_by_commands(house: House) -> None:
    assert_problem(await house.admin.get("/v1/models/shop/rollout"), 404)
    await publish(house, champion=1)
    assert_problem(await house.admin.get("/v1/models/shop/rollout"), 404, field="rollout")
    assert_problem(await house.admin.post("/v1/models/shop/rollout/abort"), 404, field="rollout")
    state = models_pb2.ModelState(model="shop", revision=3, champion=1, reason="rollout", key_id="trainer",
                                  signature=b"s", rollout=models_pb2.Rollout(
                                      candidate=2, champion=1, share=0.25, since=3,
                                      strategy=models_pb2.ROLLOUT_STRATEGY_CANARY,
                                      state=models_pb2.ROLLOUT_STATE_RUNNING))
    for number in (1, 2):
        state.versions.add(model="shop", version=number, status=models_pb2.VERSION_STATUS_READY, key_id="trainer",
                           signature=b"s").manifest.MergeFrom(models_pb2.ModelManifest(
                               model="shop", version=number, family="mlp", sha256="ab" * 32,
                               task=models_pb2.MODEL_TASK_CLASSIFICATION))
    state.changed_at.GetCurrentTime()
    await house.announce(Topic.MODELS, "shop", state)
    for name in ("predictor-8", "predictor-9"):
        instance = telemetry_pb2.Instance(instance=name, service="predictor", boot_id="b",
                                          state=telemetry_pb2.INSTANCE_STATE_READY)
        instance.models.add(model="shop", version=1, revision=3, arms=[
            telemetry_pb2.ServedArm(version=1, since=3, answered=30, runs=[30]),
            telemetry_pb2.ServedArm(version=2, since=3, answered=10, failed=1, runs=[10]),
            telemetry_pb2.ServedArm(version=2, since=2, answered=99)])
        instance.at.GetCurrentTime()
        await house.announce(Topic.INSTANCES, name, instance)
    await house.until("/v1/models/shop/rollout", lambda said: said.status_code == 200
                      and said.json()["measured"][0]["answered"] == 60, "both instances' counts")
    told = (await house.admin.get("/v1/models/shop/rollout")).json()
    assert (told["candidate"], told["strategy"], told["state"], told["share"]) == (2, "CANARY", "RUNNING", 0.25)
    assert (told["measured"][1]["answered"], told["measured"][1]["failed"]) == (20, 2)
    command = await asked(house, "/v1/models/shop/rollout/abort", {"note": "too soon"})
    assert (command.kind, command.note) == (training_pb2.TRAINING_KIND_ABORT_ROLLOUT, "too soon")
    command = await asked(house, "/v1/models/shop/rollout/promote")
    assert (command.kind, command.parent_version) == (training_pb2.TRAINING_KIND_PROMOTE, 2)
