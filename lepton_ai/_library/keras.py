"""A `.keras` file on its way to ONNX: what of it may be opened at all, and who opens it."""

import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from lepton.errors import Invalid, Missing, Unavailable

MEMBERS: Final = frozenset({"config.json", "metadata.json", "model.weights.h5"})
CONFIG_BYTES: Final = 16 * 2**20
WEIGHTS_BYTES: Final = 2 * 2**30
"""Unpacked. The gateway takes less; this bounds what a small archive may unfold to."""
_MODELS: Final = frozenset({"Sequential", "Functional", "Model"})
# Of the other layers some run code (Lambda, TorchModuleWrapper, JaxLayer), some read files (TFSMLayer, StringLookup).
LAYERS: Final = frozenset({
    "InputLayer", "Dense", "Dropout", "Identity", "Activation", "ReLU", "LeakyReLU", "PReLU", "ELU", "Softmax",
    "Flatten", "Reshape", "Permute", "RepeatVector", "BatchNormalization", "LayerNormalization",
    "UnitNormalization", "Normalization", "Rescaling", "GaussianNoise", "GaussianDropout", "AlphaDropout",
    "ActivityRegularization", "SpatialDropout1D", "SpatialDropout2D", "Add", "Subtract", "Multiply", "Average",
    "Maximum", "Minimum", "Concatenate", "Dot", "Conv1D", "Conv2D", "SeparableConv1D", "SeparableConv2D",
    "DepthwiseConv1D", "DepthwiseConv2D", "MaxPooling1D", "MaxPooling2D", "AveragePooling1D", "AveragePooling2D",
    "GlobalMaxPooling1D", "GlobalMaxPooling2D", "GlobalAveragePooling1D", "GlobalAveragePooling2D", "ZeroPadding1D",
    "ZeroPadding2D", "LSTM", "GRU", "SimpleRNN", "Bidirectional", "TimeDistributed",
})
_PARTS: Final = ("keras.initializers", "keras.regularizers", "keras.constraints", "keras.activations")
_POLICIES: Final = frozenset({"DTypePolicy", "FloatDTypePolicy"})
_REMEDY: Final = "build it of Keras's own layers, or turn it into ONNX with tf2onnx yourself"


def check(path: Path) -> str:
    """The Keras version it was written by. Raises Invalid for a file that holds anything but plain layers' weights."""
    try:
        with zipfile.ZipFile(path) as archive:
            strange = sorted(set(archive.namelist()) - MEMBERS)
            if strange or "config.json" not in archive.namelist():
                raise _refused(f"holds {strange[0]}" if strange else "is no Keras model")
            if any(one.file_size > (WEIGHTS_BYTES if one.filename.endswith(".h5") else CONFIG_BYTES)
                   for one in archive.infolist()):
                raise _refused("is too large")
            config = json.loads(archive.read("config.json"))
            told = json.loads(archive.read("metadata.json")) if "metadata.json" in archive.namelist() else {}
    except (zipfile.BadZipFile, ValueError, RecursionError) as error:
        raise _refused("is no Keras model") from error
    # How it was trained is never read.
    for one in _objects({name: inner for name, inner in config.items() if name != "compile_config"}):
        _check(one)
    return str(told.get("keras_version") or "")[:40]


def to_onnx(path: Path, checkout: Path) -> bytes:
    """What tf2onnx makes of it, in an environment of its own. Raises Invalid, or Unavailable where there is none."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "model.onnx"
        done = subprocess.run([sys.executable, "-m", "deploy.keras", str(path.resolve()), str(target)], cwd=checkout,
                              capture_output=True, text=True, check=False)
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        if done.returncode == 1:
            raise Invalid(f"tf2onnx cannot turn the model into ONNX: {said[:300]}", field="file", remedy=_REMEDY)
        if done.returncode:
            raise Unavailable(f"there is no environment to open Keras models in: {said[:300]}",
                              remedy="turn the model into ONNX with tf2onnx yourself, and import that file")
        return target.read_bytes()


def checkout() -> Path:
    """The folder with deploy/: beside this package, else the working directory. Raises Missing."""
    for root in (Path(__file__).resolve().parents[2], Path.cwd()):
        if (root / "deploy" / "local" / "__main__.py").is_file():
            return root
    raise Missing("no checkout of Lepton here", place=str(Path.cwd()), remedy="run it in the folder that holds deploy/")


def _objects(told: Any) -> Iterator[dict[str, Any]]:
    """Everything of which Keras would make an object, wherever it stands."""
    if isinstance(told, dict):
        if "class_name" in told:
            yield told
        for inner in told.values():
            yield from _objects(inner)
    elif isinstance(told, list):
        for inner in told:
            yield from _objects(inner)


def _check(one: dict[str, Any]) -> None:
    name, module, registered = str(one["class_name"]), str(one.get("module") or ""), one.get("registered_name")
    if name == "__keras_tensor__" and not module:
        return
    known = ((module == "keras.layers" and name in LAYERS) or module in _PARTS
             or (name in _MODELS and module in ("keras", "keras.models", "keras.src.models.functional"))
             or (name in _POLICIES and module == "keras"))
    if not known or registered not in (None, "", name):
        raise _refused(f"has {name} of {module or 'no module'}, which may run code or read files")


def _refused(what: str) -> Invalid:
    return Invalid(f"the file {what}", field="file", remedy=_REMEDY)
