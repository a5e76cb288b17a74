"""How arrays with a description become bytes that cannot run code: numpy's zip of plain arrays, never pickle.

The same content always gives the same bytes, so the digest of a file says whether two runs learnt the same.
"""

import io
import json
from collections.abc import Mapping
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from lepton.errors import Invalid

Array = npt.NDArray[Any]
_ABOUT = "about.json"


def pack(arrays: Mapping[str, Array], about: Mapping[str, Any]) -> bytes:
    """`about` must be plain JSON values."""
    text = json.dumps(about, sort_keys=True, separators=(",", ":"))
    everything = {**arrays, _ABOUT: np.frombuffer(text.encode(), dtype=np.uint8)}
    if any(array.dtype.hasobject for array in everything.values()):
        raise ValueError("only plain arrays can be packed")
    sink = io.BytesIO()
    np.savez(sink, allow_pickle=False, **{name: everything[name] for name in sorted(everything)})
    return sink.getvalue()


def unpack(data: bytes) -> tuple[dict[str, Array], dict[str, Any]]:
    """Raises Invalid for anything `pack` did not make."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        about = json.loads(arrays.pop(_ABOUT).tobytes())
    except (ValueError, KeyError, OSError, EOFError, AttributeError, BadZipFile) as error:
        raise Invalid(f"not a file of weights: {error}") from error
    if not isinstance(about, dict):
        raise Invalid("not a file of weights: its description is no object")
    return arrays, about
