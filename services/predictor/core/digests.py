"""Which digest stands for the inputs of a row: the same for the same values, whichever door they came by."""

import hashlib
from collections.abc import Mapping

import numpy as np

from services.predictor.core.signature import EXPLAIN, Array, Signature, TensorType

_WIDTH = 4
"""Bytes of the length before each text, little endian, as on the wire."""


def digests(arrays: Mapping[str, Array], signature: Signature, start: int, stop: int) -> list[bytes]:
    """SHA-256 of each row from `start` to before `stop`.

    Over every input the model declares, in that order, but `_explain`: its name and datatype as texts, then its values
    in the wire's raw form; a text is its UTF-8 behind its length.
    """
    declared = [tensor for tensor in signature.inputs.values() if tensor.name != EXPLAIN and tensor.name in arrays]
    return [_digest([(tensor, arrays[tensor.name][row]) for tensor in declared]) for row in range(start, stop)]


def _digest(values: list[tuple[TensorType, Array]]) -> bytes:
    found = hashlib.sha256()
    for tensor, value in values:
        for text in (tensor.name, tensor.datatype):
            found.update(_text(text))
        found.update(_raw(tensor, value))
    return found.digest()


def _raw(tensor: TensorType, value: Array) -> bytes:
    if tensor.datatype == "BYTES":
        return b"".join(_text(str(text)) for text in np.ravel(value))
    return np.ascontiguousarray(value, dtype=tensor.dtype).tobytes()


def _text(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(_WIDTH, "little") + data
