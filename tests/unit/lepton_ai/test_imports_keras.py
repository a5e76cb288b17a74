"""A Keras file from the user's side: what holds code is refused unopened; why none can be opened is told."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from deploy.keras.__main__ import ROOT
from lepton.errors import Invalid
from lepton_ai._library.importing import of_file
from lepton_ai._library.keras import check

POLICY = {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float32"}, "registered_name": None}
ZEROS: dict[str, Any] = {"module": "keras.initializers", "class_name": "Zeros", "config": {}, "registered_name": None}


def layer(name: str, module: str = "keras.layers", **config: Any) -> dict[str, Any]:
    return {"module": module, "class_name": name, "config": config, "registered_name": None}


def written(path: Path, *layers: dict[str, Any], **members: bytes) -> Path:
    """As Keras 3 writes a Sequential, but for the weights."""
    config = {**layer("Sequential", "keras", layers=list(layers)), "compile_config": {"loss": "mse", "optimizer": layer(
        "Adam", "keras.optimizers")}}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.15.1"}))
        archive.writestr("model.weights.h5", b"\x89HDF")
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def test_a_file_of_plain_layers_may_be_opened(tmp_path: Path) -> None:
    dense = layer("Dense", units=2, dtype=POLICY, bias_initializer=ZEROS)
    assert check(written(tmp_path / "a.keras", layer("InputLayer", batch_shape=[None, 9]), dense)) == "3.15.1"


@pytest.mark.parametrize("strange", [
    layer("Lambda", function={"class_name": "__lambda__", "config": {"code": "4wEA"}}),
    layer("TorchModuleWrapper", module="gASV"),
    layer("TFSMLayer", filepath="/tmp/somewhere"),
    layer("Dense", "mypackage.layers"),
    {**layer("Dense"), "registered_name": "mine>Dense"},
    layer("get_file", "keras.utils", origin="http://example.org"),
    layer("Dense", activation={"module": "builtins", "class_name": "function", "config": "eval",
                               "registered_name": "function"}),
    layer("Bidirectional", layer=layer("Lambda")),
], ids=lambda one: one["class_name"])
def test_what_may_run_code_or_read_files_is_refused_wherever_it_stands(tmp_path: Path, strange: dict[str, Any]) -> None:
    path = written(tmp_path / "a.keras", layer("InputLayer"), strange)
    with pytest.raises(Invalid, match="may run code or read files"):
        of_file(path)


def test_what_is_no_keras_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"holds assets\.txt"):
        check(written(tmp_path / "more.keras", **{"assets.txt": b"words"}))
    (tmp_path / "a.keras").write_bytes(b"\x89HDF and so on")
    with pytest.raises(Invalid, match="is no Keras model"):
        check(tmp_path / "a.keras")
    with zipfile.ZipFile(tmp_path / "b.keras", "w") as archive:
        archive.writestr("config.json", "[" * 100_000)
    with pytest.raises(Invalid, match="is no Keras model"):
        check(tmp_path / "b.keras")


def test_an_environment_that_cannot_be_built_is_told_of(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "deploy.keras", "in.keras", "out.onnx"], cwd=ROOT, text=True,
                          capture_output=True, check=False, env={
                              **os.environ, "LEPTON_CACHE": str(tmp_path), "UV_OFFLINE": "1",
                              "UV_CACHE_DIR": str(tmp_path / "uv")})
    assert done.returncode == 3
    assert "installing TensorFlow failed" in done.stderr and "tf2onnx yourself" in done.stderr
