"""A version leaves the platform as one signed archive, over REST and on the command line."""

import asyncio
from datetime import timedelta
from pathlib import Path

from lepton.clock import SystemClock
from lepton.contracts.bundles import exported, modelsigning
from lepton.contracts.bundles.packing import unpack
from lepton.contracts.pb import models_pb2
from lepton.contracts.signing import Identity, TrustedKey, sign_manifest
from lepton.contracts.topics import Topic
from lepton.store.artifacts import Artifacts, sha256_hex
from lepton_ai import AsyncLeptonClient
from lepton_ai._models import Model
from tests.unit.gateway.house import House
from tests.unit.gateway.test_access import assert_problem
from tests.unit.gateway.test_cards import bundle, lepton

ROUTE = "/v1/models/shop/versions/2/export"
FILE = b"an ONNX file"


async def publish(house: House, identity: Identity) -> None:
    """Version 1 from before there were exports, and the champion 2."""
    card, artifacts = bundle(), Artifacts(house.database)
    manifest = models_pb2.ModelManifest(model="shop", version=2, sha256=await artifacts.put(FILE, "model"),
                                        card_sha256=await artifacts.put(card, "model"), family="mlp",
                                        model_signing_key=modelsigning.public_key_of(identity))
    version = models_pb2.ModelVersion(model="shop", version=2, manifest=manifest,
                                      status=models_pb2.VERSION_STATUS_READY)
    sign_manifest(identity, version)
    version.model_signing_sha256 = await artifacts.put(exported.beside(identity, version, FILE, card, b"pass"), "model")
    before = models_pb2.ModelManifest(model="shop", version=1, sha256="ab" * 32)
    old = models_pb2.ModelVersion(model="shop", version=1, status=models_pb2.VERSION_STATUS_READY, manifest=before)
    await house.announce(Topic.MODELS, "shop", models_pb2.ModelState(
        model="shop", revision=2, champion=2, key_id="trainer", signature=b"s", versions=[old, version]))
    await house.until("/v1/models/shop", lambda said: said.status_code == 200, "the model to be known")


async def test_a_version_is_exported_with_the_scope_to_train(house: House, tmp_path: Path) -> None:
    await publish(house, Identity.create(tmp_path, "trainer"))
    said = await house.admin.get(ROUTE)
    assert (said.headers["content-type"], said.headers["content-disposition"]) == (
        "application/zip", 'attachment; filename="shop-2.zip"')
    files = unpack(said.content)
    assert (files["model/model.onnx"], files["model/card/report.json"]) == (FILE, b'{"rows": 80}')
    assert "shop version 2" in files["model/README.md"].decode()
    assert_problem(await (await house.with_scopes("read", "predict")).get(ROUTE), 403)
    assert_problem(await house.admin.get("/v1/models/shop/versions/1/export"), 404, field="version")
    assert_problem(await house.admin.get("/v1/models/shop/versions/9/export"), 404, field="version")


async def test_the_command_line_exports_and_verifies(house: House, tmp_path: Path) -> None:
    identity = Identity.create(tmp_path / "keys", "trainer")
    await publish(house, identity)
    now = SystemClock().now()
    TrustedKey("trainer", identity.public_bytes(), frozenset({"trainer"}), now - timedelta(days=1),
               now + timedelta(days=1)).write(tmp_path / "trust")
    file = tmp_path / "shop.zip"
    assert "shop version 2" in (await lepton(house, "models", "export", "shop", str(file))).stdout
    verify = ("models", "verify", str(file), "--trust", str(tmp_path / "trust"))
    assert "version 2 (mlp), as it was signed" in (await lepton(house, *verify)).stdout
    written = file.read_bytes()
    file.write_bytes(written.replace(FILE, FILE.upper()))
    assert (await lepton(house, *verify)).exit_code == 1
    for wrong in ("shop@1", "shop@x", "nobody"):
        assert (await lepton(house, "models", "export", wrong, str(tmp_path / "none.zip"))).exit_code == 1
    def left() -> list[Path]:
        return list(tmp_path.glob("none*"))
    assert not await asyncio.to_thread(left)


async def test_the_sdk_exports(house: House, tmp_path: Path) -> None:
    await publish(house, Identity.create(tmp_path, "trainer"))
    key_id, _, secret = house.settings.bootstrap_file.read_text().strip().partition(".")
    async with AsyncLeptonClient(key_id, secret, f"http://{house.address}") as client:
        file = await client.export_model(Model("shop", 2, "mlp", {}), tmp_path / "shop.zip")
    assert sha256_hex(file.read_bytes()) == sha256_hex((await house.admin.get(ROUTE)).content)
