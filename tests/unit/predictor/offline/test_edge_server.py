"""`lepton edge serve` as a real process: the same answers behind the same doors, and no broker or database in it."""

import os
import re
import signal
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from lepton.contracts.apikeys import new_key
from lepton.contracts.bundles import exported, modelsigning
from lepton.contracts.bundles.packing import pack, unpack
from lepton.contracts.pb import grpc_service_pb2 as oip
from lepton.contracts.pb import grpc_service_pb2_grpc as oip_grpc
from lepton.contracts.pb import models_pb2, prediction_pb2, prediction_pb2_grpc
from lepton.contracts.signing import Identity, sign_manifest
from tests.harness.onnx_models import Linear
from tests.harness.registry import trainer
from tests.harness.wait import apoll_until
from tests.unit.predictor.world import amounts, status

ROOT = Path(__file__).parents[4]
LINEAR = Linear({"amount": "float"}, bias=1.0)
FORBIDDEN = ("aiokafka", "motor", "pymongo", "kafka", "fastapi", "torch")
_AT = re.compile(r"tiny version 3 answers at ([0-9.]+:[0-9]+)")


def bundle(identity: Identity, home: Path) -> Path:
    """An exported version 3 of `tiny`."""
    data = LINEAR.build()
    manifest = LINEAR.manifest(data, "tiny", 3)
    manifest.model_signing_key = modelsigning.public_key_of(identity)
    version = models_pb2.ModelVersion(model="tiny", version=3, manifest=manifest)
    sign_manifest(identity, version)
    path = home / "tiny-3.zip"
    path.write_bytes(exported.whole(exported.beside(identity, version, data, None, b"pass"), data, None))
    return path


@contextmanager
def edge(*arguments: str | Path, door: str = "python") -> Iterator["subprocess.Popen[str]"]:
    """The command as a person starts it, on a free port; ended when left."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LEPTON_")}
    process = subprocess.Popen(
        [sys.executable, "-X", "importtime", "-c", "from lepton_ai.cli import main; main()", "edge", "serve",
         *map(str, arguments), "--port", "0"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**environment, "LEPTON_PREDICTOR_DOOR": door, "LEPTON_DEVICE": "cpu", "PYTHONPROFILEIMPORTTIME": "1"})
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=30)


def told(process: "subprocess.Popen[str]", pattern: re.Pattern[str]) -> tuple[str, str]:
    """What the process says until a line fits, and that line's first group."""
    said = []
    assert process.stdout is not None
    for line in process.stdout:
        said.append(line)
        found = pattern.search(line)
        if found:
            return "".join(said), found[1]
    raise AssertionError(f"it ended:\n{''.join(said)}")


@asynccontextmanager
async def asked(address: str) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(address) as channel:
        yield channel


async def test_an_exported_version_answers_behind_either_door_without_broker_or_database(
        tmp_path: Path, door: str) -> None:
    with edge(bundle(trainer(tmp_path), tmp_path), "--trust", tmp_path / "trust", door=door) as process:
        said, address = told(process, _AT)
        imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in said.splitlines()
                    if line.startswith("import time:")}
        assert "onnxruntime" in imported
        assert not imported & set(FORBIDDEN)
        async with asked(address) as channel:
            inference: Any = oip_grpc.GRPCInferenceServiceStub(channel)

            async def ready() -> bool:
                return bool((await inference.ServerReady(oip.ServerReadyRequest())).ready)

            await apoll_until(ready, "the server to be ready", 20)
            answer = await inference.ModelInfer(amounts("tiny", 1.0, 2.0))
            assert (answer.model_version, struct.unpack("<2f", answer.raw_output_contents[0])) == ("3", (2.0, 3.0))
            own: Any = prediction_pb2_grpc.PredictionStub(channel)
            request = prediction_pb2.PredictRequest(model="tiny", each=True)
            request.rows.add().update({"amount": 1.0})
            request.rows.add().update({"amuont": 1.0})
            named = await own.Predict(request)
            assert (named.rows[0].number, named.rows[1].error.field) == (2.0, "amuont")
            code, why = await status(own.Feedback(prediction_pb2.FeedbackRequest(model="tiny")))
            assert (code, "no broker" in why) == (grpc.StatusCode.UNIMPLEMENTED, True)
            code, _ = await status(inference.RepositoryModelUnload(
                oip.RepositoryModelUnloadRequest(model_name="tiny")))
            assert code == grpc.StatusCode.PERMISSION_DENIED
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        assert process.returncode == 0


async def test_with_a_file_of_keys_only_their_owners_are_answered(tmp_path: Path) -> None:
    key_id, secret, _ = new_key()
    (tmp_path / "keys").mkdir(exist_ok=True)
    keys = tmp_path / "callers"
    keys.write_text(f"{key_id}.{secret}\n", "utf-8")
    with edge(bundle(trainer(tmp_path), tmp_path), "--trust", tmp_path / "trust", "--keys", keys) as process:
        _, address = told(process, _AT)
        async with asked(address) as channel:
            inference: Any = oip_grpc.GRPCInferenceServiceStub(channel)
            code, _ = await status(inference.ModelInfer(amounts("tiny", 1.0)))
            assert code == grpc.StatusCode.UNAUTHENTICATED
            mine = (("authorization", f"Bearer {key_id}.{secret}"),)
            assert (await inference.ModelInfer(amounts("tiny", 1.0), metadata=mine)).model_version == "3"


def _tampered(home: Path) -> list[str | Path]:
    """One bit of the model is another."""
    path = bundle(trainer(home), home)
    files = unpack(path.read_bytes())
    model = bytearray(files["model/model.onnx"])
    model[len(model) // 2] ^= 1
    path.write_bytes(pack({**files, "model/model.onnx": bytes(model)}))
    return [path, "--trust", home / "trust"]


def _strange(home: Path) -> list[str | Path]:
    """Signed by somebody else."""
    return [bundle(trainer(home, "stranger", trusted=False), home), "--trust", home / "trust"]


def _open(home: Path) -> list[str | Path]:
    return [bundle(trainer(home), home), "--trust", home / "trust", "--host", "0.0.0.0"]


@pytest.mark.parametrize(("prepare", "why"), [
    (_tampered, "the ONNX file is not the one that the manifest names"),
    (_strange, "signed by a key that is not trusted here"),
    (_open, "others could call, and no keys are asked for")])
def test_what_must_not_be_served_is_refused_before_anything_listens(tmp_path: Path, prepare: Any, why: str) -> None:
    with edge(*prepare(tmp_path)) as process:
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 1
        assert why in said
        assert "answers at" not in said
