"""A model trained elsewhere on its way in: an ONNX file as it is, an estimator or Keras model turned into one here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lepton.contracts.bundles.brought import check_plain
from lepton.errors import Invalid, Missing
from lepton_ai._library import keras
from lepton_ai._transport import Transport

OPSET: Final = 18
_NUMBERS: Final = ("float", "int", "bool")


@dataclass(frozen=True, slots=True)
class Brought:
    """An ONNX file, the classes of its probabilities in their order, and what it was."""

    data: bytes
    classes: tuple[str, ...] = ()
    origin: str = "onnx"


def of_file(path: Path, classes: Sequence[str] = ()) -> Brought:
    """An ONNX file, with the weights of `FILE.data` beside it put inside, or what becomes of a `.keras` file.

    Raises Missing, Unavailable, or Invalid with the remedy for a file that could run code.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Missing(f"cannot be read: {error.strerror}", place=str(path)) from error
    if path.suffix == ".keras":
        version = keras.check(path)
        return Brought(keras.to_onnx(path, keras.checkout()), tuple(classes), f"Keras {version}".strip())
    check_plain(data)
    if path.with_name(f"{path.name}.data").is_file():
        data = _whole(path)
    return Brought(data, tuple(classes))


def _whole(path: Path) -> bytes:
    """What torch.onnx.export leaves as two files, as one. onnx itself refuses places outside the file's folder."""
    try:
        import onnx
    except ImportError as error:
        raise Missing("onnx is not installed, which puts the weights beside the file into it",
                      remedy="pip install 'lepton-ai[onnx]', or torch.onnx.export(..., external_data=False)") from error
    try:
        return bytes(onnx.load(path).SerializeToString())
    except Exception as error:  # protobuf's and onnx's own errors share no other base
        raise Invalid(f"the file and its weights do not fit: {str(error).splitlines()[0][:200]}", place=str(path),
                      remedy="torch.onnx.export(..., external_data=False)") from error


def of_estimator(estimator: Any, fields: Mapping[str, str]) -> Brought:
    """What skl2onnx makes of a fitted estimator over `fields`, name to type. Raises Invalid or Missing.

    Runs here, where the estimator is: nothing that could run code is sent.
    """
    try:
        import sklearn
        from skl2onnx import to_onnx  # type: ignore[import-untyped]
        from skl2onnx.common import data_types as types  # type: ignore[import-untyped]
    except ImportError as error:
        raise Missing("skl2onnx is not installed, which turns estimators into ONNX",
                      remedy="pip install 'lepton-ai[sklearn]'") from error
    named = [str(one) for one in getattr(estimator, "feature_names_in_", ())]
    if named and named != list(fields):
        raise Invalid(f"the estimator was fitted on {', '.join(named)}", field="estimator",
                      remedy=f"fit it on the Pipeline's fields, in their order: {', '.join(fields)}")
    if all(kind in _NUMBERS for kind in fields.values()) and not named:
        inputs = [("fields", types.FloatTensorType([None, len(fields)]))]
    else:
        inputs = [(name, types.FloatTensorType([None, 1]) if kind in _NUMBERS else types.StringTensorType([None, 1]))
                  for name, kind in fields.items()]
    classes = [_text(one) for one in getattr(estimator, "classes_", ())]
    try:
        options = {id(estimator): {"zipmap": False}} if classes else None
        model = to_onnx(estimator, initial_types=inputs, options=options, target_opset=OPSET)
    except Exception as error:  # skl2onnx and the estimators raise whatever they like
        raise Invalid(f"skl2onnx cannot turn the estimator into ONNX: {error}", field="estimator",
                      remedy="see its list of supported models, or export it to ONNX yourself") from error
    return Brought(model.SerializeToString(), tuple(classes), f"scikit-learn {sklearn.__version__} "
                                                              f"{type(estimator).__name__}")


async def ask(transport: Transport, pipeline: str, brought: Brought, command_id: str, promote: bool) -> str:
    """Send it; the run it is about. Raises Invalid, Missing or Refused."""
    answer = await transport.call(
        "POST", f"/v1/models/{pipeline}/import", content=brought.data,
        headers={"content-type": "application/octet-stream"},
        params={"classes": list(brought.classes), "origin": brought.origin, "promote": str(promote).lower(),
                "command_id": command_id})
    return str(answer.json()["run_id"])


def _text(label: Any) -> str:
    plain = label.item() if hasattr(label, "item") else label
    return str(plain).lower() if isinstance(plain, bool) else str(plain)
