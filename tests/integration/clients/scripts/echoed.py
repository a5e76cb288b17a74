"""What every client sends and must get back: two rows of each datatype, with the extremes of each."""

import json
import os
import sys
from typing import Any

import numpy as np

NUMBERS: dict[str, Any] = {
    "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32, "UINT64": np.uint64,
    "INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64}
FLOATS: dict[str, Any] = {"FP16": np.float16, "FP32": np.float32, "FP64": np.float64}


def arrays() -> dict[str, Any]:
    """Datatype -> array [2, 2]."""
    texts = [[b"a", "gr\u00fc\u00df".encode()], [b"", b"x" * 300]]
    found: dict[str, Any] = {"BOOL": np.array([[True, False], [False, True]]),
                             "BYTES": np.array(texts, dtype=np.object_)}
    for name, kind in NUMBERS.items():
        limits = np.iinfo(kind)
        found[name] = np.array([[limits.min, limits.max], [0, 1]], dtype=kind)
    for name, real in FLOATS.items():
        found[name] = np.array([[-1.5, np.finfo(real).max], [0.0, 0.5]], dtype=real)
    return found


def check(name: str, got: Any, sent: Any) -> None:
    """Equal, and of the same type; text that came as JSON is text, not bytes."""
    assert got is not None, f"{name} did not come"
    if sent.dtype == np.object_:
        found = [one.encode() if isinstance(one, str) else one for one in got.ravel()]
        assert (got.shape, found) == (sent.shape, list(sent.ravel())), f"{name}: got {got!r}"
    else:
        assert got.shape == sent.shape and got.dtype == sent.dtype, f"{name}: got {got!r}"
        assert (got == sent).all(), f"{name}: sent {sent!r}, got {got!r}"


def address() -> str:
    """The server's, as given on the command line."""
    return sys.argv[1]


def headers(kind: str = "predict") -> dict[str, str]:
    """With the key of that scope, from the environment: a command line is open to all."""
    keys: dict[str, str] = json.loads(os.environ["CLIENT_KEYS"])
    return {"authorization": keys[kind]}
