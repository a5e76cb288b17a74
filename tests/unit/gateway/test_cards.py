"""A version's model card over REST and on the command line, as the trainer stored it."""

import asyncio
import io
import json
import zipfile
from pathlib import Path

from typer.testing import CliRunner, Result

from lepton.contracts.pb import models_pb2
from lepton.contracts.topics import Topic
from lepton.store.artifacts import Artifacts
from lepton_ai.cli.app import app
from tests.unit.gateway.house import House
from tests.unit.gateway.test_access import assert_problem

TEXT = "# shop: mlp\n\nLearnt from 80 rows.\n"
CARD = "/v1/models/shop/versions/2/card"


def bundle(**files: bytes) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as file:
        for name, data in {"card.md": TEXT.encode(), "report.json": b'{"rows": 80}', **files}.items():
            file.writestr(name, data)
    return sink.getvalue()


async def publish(house: House, card: bytes) -> None:
    """Version 1 without a card, and the champion 2 with it."""
    digest = await Artifacts(house.database).put(card, "model")
    state = models_pb2.ModelState(model="shop", revision=2, champion=2, key_id="trainer", signature=b"s")
    for number, sha256 in ((1, ""), (2, digest)):
        version = state.versions.add(model="shop", version=number, status=models_pb2.VERSION_STATUS_READY)
        version.manifest.MergeFrom(models_pb2.ModelManifest(model="shop", version=number, sha256="ab" * 32,
                                                            card_sha256=sha256))
    await house.announce(Topic.MODELS, "shop", state)
    await house.until("/v1/models/shop", lambda said: said.status_code == 200, "the model to be known")


async def lepton(house: House, *arguments: str) -> Result:
    key_id, _, secret = house.settings.bootstrap_file.read_text().strip().partition(".")
    where = ["--key", key_id, "--secret", secret, "--region", f"http://{house.address}"]
    return await asyncio.to_thread(CliRunner().invoke, app, [*where, *arguments])


async def test_a_card_is_read_with_every_file_beside_it(house: House) -> None:
    card = bundle(**{"roc.png": b"\x89PNG"})
    await publish(house, card)
    said = await house.admin.get(CARD)
    assert (said.text, said.headers["content-type"]) == (TEXT, "text/markdown; charset=utf-8")
    assert (await house.admin.get(f"{CARD}/report.json")).json() == {"rows": 80}
    picture = await house.admin.get(f"{CARD}/roc.png")
    assert (picture.content, picture.headers["content-type"]) == (b"\x89PNG", "image/png")
    assert (await house.admin.get(f"{CARD}/card.zip")).content == card
    assert json.loads((await house.admin.get("/v1/models/shop")).text)["versions"][1]["card_sha256"]


async def test_what_has_no_card_is_named_and_so_is_what_a_card_has_not(house: House) -> None:
    assert_problem(await house.admin.get(CARD), 404)
    await publish(house, bundle())
    assert_problem(await house.admin.get("/v1/models/shop/versions/1/card"), 404, field="version")
    assert_problem(await house.admin.get("/v1/models/shop/versions/9/card"), 404, field="version")
    assert_problem(await house.admin.get(f"{CARD}/passwd"), 404, field="file")
    assert_problem(await house.client().get(CARD), 401)


async def test_a_damaged_card_is_told_of(house: House) -> None:
    await publish(house, b"no zip")
    assert_problem(await house.admin.get(CARD), 503)


async def test_the_command_line_shows_the_champions_card_and_saves_any(house: House, tmp_path: Path) -> None:
    await publish(house, bundle())
    assert (await lepton(house, "models", "card", "shop")).stdout == TEXT + "\n"
    target = tmp_path / "card.zip"
    assert "bytes" in (await lepton(house, "models", "card", "shop@2", "--save", str(target))).stdout
    assert zipfile.ZipFile(target).namelist() == ["card.md", "report.json"]
    for wrong in ("shop@1", "shop@none", "nobody"):
        assert (await lepton(house, "models", "card", wrong)).exit_code == 1
    assert "champion 2" in (await lepton(house, "models", "shop")).stdout
