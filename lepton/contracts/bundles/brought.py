"""Which files people bring as models, told by their first bytes: what can run code is refused before it is opened."""

from lepton.errors import Invalid

ORIGIN_CHARACTERS = 200
_TO_ONNX = ("export the model to ONNX: `client.import_model(estimator, ...)` does so for scikit-learn, "
            "torch.onnx.export for torch; Keras saves as .keras")
_KINDS = {b"\x80": "a pickle, which runs code when it is opened", b"(lp": "a pickle, which runs code when it is opened",
          b"\x78": "compressed, as joblib writes it: a pickle, which runs code when it is opened",
          b"PK": "a zip archive, as torch and Keras write it, which can hold code",
          b"\x89HDF": "an HDF5 file, as Keras writes it, which can hold code",
          b"BZh": "compressed", b"\x1f\x8b": "compressed"}


def check_plain(data: bytes) -> None:
    """Raises Invalid, with the remedy, for a file that is certainly not ONNX."""
    for begin, kind in _KINDS.items():
        if data.startswith(begin):
            raise Invalid(f"the file is {kind}", field="file", remedy=_TO_ONNX)
    if not data:
        raise Invalid("the file is empty", field="file", remedy=_TO_ONNX)
