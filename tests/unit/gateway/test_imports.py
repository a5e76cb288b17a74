"""An ONNX file on its way to the trainer: stored, named in a durable command, refused early where it can run code."""

import json
from pathlib import Path

from lepton.contracts.pb import training_pb2
from lepton.contracts.topics import Topic
from lepton.store.artifacts import Artifacts
from lepton.store.registry.garbage import UPLOADS
from tests.unit.gateway.house import House
from tests.unit.gateway.test_access import assert_problem
from tests.unit.gateway.test_cards import lepton

ROUTE = "/v1/models/shop/import"


async def test_a_file_is_stored_and_named_in_a_command(house: House) -> None:
    await house.apply()
    said = await house.admin.post(ROUTE, content=b"\x08\x09onnx", params={
        "classes": ["true", "false"], "origin": "torch", "promote": False, "command_id": "c1"})
    assert said.status_code == 202
    (command,) = await house.messages(Topic.TRAINING_COMMANDS)
    assert (command.kind, command.model, command.promote) == (training_pb2.TRAINING_KIND_IMPORT, "shop", False)
    assert json.loads(command.about_json) == {"classes": ["true", "false"], "origin": "torch"}
    artifacts = Artifacts(house.database)
    assert await artifacts.get(command.artifact_sha256) == b"\x08\x09onnx"
    assert [one.digest for one in await artifacts.of_kind(UPLOADS)] == [command.artifact_sha256]
    assert (await house.admin.get(f"/v1/runs/{said.json()['run_id']}")).json()["state"].endswith("QUEUED")


async def test_what_can_run_code_or_has_no_pipeline_is_refused(house: House, tmp_path: Path) -> None:
    assert_problem(await house.admin.post(ROUTE, content=b"\x08"), 404)
    await house.apply()
    assert_problem(await house.admin.post(ROUTE, content=b"\x80\x05pickle"), 422, field="file")
    assert_problem(await (await house.with_scopes("read")).post(ROUTE, content=b"\x08"), 403)
    assert not await house.messages(Topic.TRAINING_COMMANDS)
    file = tmp_path / "model.joblib"
    file.write_bytes(b"\x80\x05pickle")
    done = await lepton(house, "models", "import", str(file), "--pipeline", "shop")
    assert done.exit_code == 1
    assert "pickle" in str(done.exception)
