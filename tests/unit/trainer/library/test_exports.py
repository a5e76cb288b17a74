"""An exported version: runs without a platform with the platform's answers, and refuses whatever was changed."""

import base64
import importlib.util
import json
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import struct_pb2
from google.protobuf.json_format import MessageToDict

from lepton.contracts.bundles import exported, modelsigning
from lepton.contracts.bundles.packing import pack, unpack
from lepton.contracts.modelling.blocks import Parameters
from lepton.contracts.pb.models_pb2 import ModelManifest, ModelVersion
from lepton.contracts.signing import Identity, sign_manifest
from lepton.errors import LeptonError, Refused
from services.predictor.core import answers
from services.predictor.core.rows import from_structs
from services.predictor.core.session import Options, Session
from services.predictor.core.signature import of_manifest
from services.trainer.core.learning import Given, learn, manifest
from services.trainer.flow.publishing import _program
from tests.unit.trainer import samples
from tests.unit.trainer.world import World

Rows = list[dict[str, Any]]

ALONE = """
import runpy, sys
class Alone:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in {*sys.stdlib_module_names, "numpy", "onnxruntime"}:
            raise ModuleNotFoundError(f"{name} is not of Python, numpy or onnxruntime", name=name)
sys.meta_path.insert(0, Alone())
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs a program that finds nothing else, whatever is installed."""


async def archive_of(world: World) -> tuple[bytes, ModelVersion]:
    """The only version, put together as the gateway does."""
    (version,) = (await world.stores.models.state("tumours")).versions
    parts = [await world.stores.artifacts.get(digest) for digest in
             (version.model_signing_sha256, version.manifest.sha256, version.manifest.card_sha256)]
    return exported.whole(*parts), version


def trained(identity: Identity, sample: tuple[Any, Any]) -> tuple[bytes, ModelManifest, bytes]:
    """A signed archive of what was learnt from a sample."""
    plan, rows = sample
    learned = learn(plan, Given(rows), [])
    told = manifest(plan, learned, "test")
    told.model, told.version, told.model_signing_key = "m", 1, modelsigning.public_key_of(identity)
    version = ModelVersion(model="m", version=1, manifest=told)
    sign_manifest(identity, version)
    beside = exported.beside(identity, version, learned.exported.data, None, _program())
    return exported.whole(beside, learned.exported.data, None), told, learned.exported.data


def unpacked(archive: bytes, folder: Path) -> Path:
    for name, data in unpack(archive).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def offline(folder: Path, rows: Rows) -> Rows:
    """What the exported program answers in a process that finds nothing but onnxruntime and numpy."""
    program = [sys.executable, "-I", "-c", ALONE, "model/predict.py"]
    done = subprocess.run(program, cwd=folder, text=True, capture_output=True, check=True, timeout=120,
                          input="".join(json.dumps(row) + "\n" for row in rows))
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]


def platform(told: ModelManifest, model: bytes, rows: Rows) -> Rows:
    """What the predictor answers."""
    signature = of_manifest(told)
    structs = []
    for row in rows:
        structs.append(struct_pb2.Struct())
        structs[-1].update(row)
    found = Session(model, signature, Options("cpu")).run(from_structs(structs, signature, len(rows)).arrays)
    return [MessageToDict(one, preserving_proto_field_name=True)
            for one in answers.named(answers.read(found, tuple(told.classes)))]


def verifying_part() -> Any:
    """model-signing's own verifier. The library's import of its certificates needs pyOpenSSL, which it does not declare
    (1.1.1); keys need none of it, so where it is not installed an empty module stands in for it."""
    if importlib.util.find_spec("OpenSSL") is None:
        absent = types.ModuleType("OpenSSL")
        absent.crypto = types.ModuleType("OpenSSL.crypto")  # type: ignore[attr-defined]  # a name to import
        sys.modules["OpenSSL"] = absent
    try:
        return importlib.import_module("model_signing.verifying")
    finally:
        if not hasattr(sys.modules.get("OpenSSL"), "__file__"):
            sys.modules.pop("OpenSSL", None)


async def test_a_published_version_is_exported_verified_and_runs_offline(world: World, tmp_path: Path) -> None:
    await world.rows(0, 200)
    await world.train()
    archive, version = await archive_of(world)
    assert exported.verified(archive, world.trust(), world.clock.now()) == version.manifest
    folder = unpacked(archive, tmp_path / "out")
    assert {"card/card.md", "card/report.json"} < {str(one.relative_to(folder / "model"))
                                                   for one in (folder / "model").rglob("*") if one.is_file()}
    rows: Rows = [{f"f{place}": float(row[f"f{place}"]) for place in range(10)}
                  for row in samples.breast_cancer()[1].slice(300, 20).to_pylist()]
    rows += [{}, {"f0": None, "f1": 1e30}]
    assert offline(folder, rows) == platform(version.manifest, (folder / "model/model.onnx").read_bytes(), rows)


async def test_the_signature_holds_for_the_formats_own_library_until_a_file_changes(world: World,
                                                                                  tmp_path: Path) -> None:
    archive, _, _ = trained(world.identity, samples.breast_cancer(parameters=Parameters(epochs=1)))
    folder = unpacked(archive, tmp_path / "out")
    verifying = verifying_part()

    def verify() -> None:
        verifying.Config().use_elliptic_key_verifier(public_key=folder / "model-signing.pem").verify(
            folder / "model", folder / "model.sig")
    verify()
    program = folder / "model/predict.py"
    program.write_bytes(program.read_bytes() + b"\n")
    with pytest.raises(ValueError, match=r"predict\.py"):
        verify()


@pytest.mark.parametrize("sample", ["mixed", "diabetes", "wine"])
def test_every_type_of_field_and_answer_is_the_same_offline(tmp_path: Path, sample: str) -> None:
    identity = Identity.create(tmp_path / "keys", "trainer")
    plan, table = getattr(samples, sample)(parameters=Parameters(epochs=2))
    archive, told, model = trained(identity, (plan, table))
    rows = [{name: value for name, value in row.items() if value is not None}
            for row in table.slice(0, 300).select([field.name for field in plan.fields]).to_pylist()]
    if sample == "mixed":
        rows.append({"country": "never seen", "note": "", "visits": -3, "member": True})
    found = offline(unpacked(archive, tmp_path / "out"), rows)
    assert len(found) == len(rows)
    expected = platform(told, model, rows)
    # The platform's message holds numbers in 64 bits, and leaves zeros out.
    assert found == [{"number": 0.0, **one} if sample == "diabetes" else one for one in expected]


def test_what_the_program_cannot_answer_is_told_and_so_is_another_file(tmp_path: Path) -> None:
    identity = Identity.create(tmp_path / "keys", "trainer")
    folder = unpacked(trained(identity, samples.mixed(parameters=Parameters(epochs=1)))[0], tmp_path / "out")

    def told(row: str) -> str:
        done = subprocess.run([sys.executable, "-I", "model/predict.py"], cwd=folder, text=True, input=row,
                              capture_output=True, check=False, timeout=120)
        assert (done.returncode, done.stdout) == (1, "")
        return done.stderr
    assert "takes no field cuntry" in told('{"cuntry": "de"}')
    assert "amount takes FP64" in told('{"amount": "much"}')
    assert "no JSON" in told("amount=3")
    (folder / "model/model.onnx").write_bytes(b"another")
    assert "not the file that manifest.json names" in told("{}")


def test_a_flipped_bit_anywhere_is_refused(world: World) -> None:
    archive, _, model = trained(world.identity, samples.diabetes(parameters=Parameters(epochs=1)))
    start = archive.index(model)
    places = {0, len(archive) - 1, start, start + len(model) - 1, *range(11, len(archive), len(archive) // 150)}
    for name in ("model.sig", "lepton.sig.json", "model-signing.pem", "model/predict.py", "model/manifest.json"):
        places.add(archive.index(unpack(archive)[name]) + 3)
    for place in sorted(places):
        changed = bytearray(archive)
        changed[place] ^= 0x10
        with pytest.raises(LeptonError):
            exported.verified(bytes(changed), world.trust(), world.clock.now())


def test_what_another_signed_or_put_in_is_refused(world: World, tmp_path: Path) -> None:
    stranger = Identity.create(tmp_path / "strange", "trainer")
    theirs, _, _ = trained(stranger, samples.diabetes(parameters=Parameters(epochs=1)))
    with pytest.raises(Refused, match="does not hold"):
        exported.verified(theirs, world.trust(), world.clock.now())
    ours = unpack(trained(world.identity, samples.diabetes(parameters=Parameters(epochs=1)))[0])
    # The stranger signs a program of theirs with a key that no trusted manifest names.
    ours["model/predict.py"] = b"import os\n"
    folder = {name.removeprefix("model/"): data for name, data in ours.items() if name.startswith("model/")}
    for swapped in ({}, {"model-signing.pem": modelsigning.pem(modelsigning.public_key_of(stranger))}):
        forged = {**ours, "model.sig": modelsigning.sign(stranger, "model", folder), **swapped}
        with pytest.raises(Refused):
            exported.verified(pack(forged), world.trust(), world.clock.now())
    with pytest.raises(LeptonError):
        exported.verified(pack({**ours, "model/extra.py": b""}), world.trust(), world.clock.now())


def test_the_second_key_follows_from_the_first(world: World, tmp_path: Path) -> None:
    again = Identity.load(tmp_path / "keys" / "trainer.json")
    assert modelsigning.public_key_of(again) == modelsigning.public_key_of(world.identity)
    assert base64.b64encode(modelsigning.public_key_of(again)).startswith(b"MFkwEwYHKoZIzj0")
    with pytest.raises(Refused):
        modelsigning.pem(b"no key")
