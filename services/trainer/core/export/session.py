"""What an exported file answers when onnxruntime runs it, and whether that is what torch answers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from services.trainer.core.dataset import Target
from services.trainer.core.export.answers import decode, labels_apart, unit_of
from services.trainer.core.failure import RunFailed
from services.trainer.core.preparing.part import ATTRIBUTIONS, EXPLAIN, MISSING, PARTS
from services.trainer.core.preparing.preparation import Preparation
from services.trainer.core.preparing.rows import LISTS, Inputs, Taken

Array = npt.NDArray[Any]

TOLERANCE = 1e-4
# Rows a call: bounds the memory of one-hot columns, and of what is worked out for each item of a catalogue.
_BATCH, _BATCH_OF_LISTS = 4096, 256
_EXPLAINED = 128  # a path has many points, and each as many numbers as a row
_ERRORS_ONLY = 3


class Session:
    """One ONNX file, run on the CPU by one thread."""

    def __init__(self, data: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY
        self._session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        names = [one.name for one in self._session.get_outputs()]
        self._reasons = [name for name in names if name == ATTRIBUTIONS or name.startswith(PARTS)]
        self._outputs = [name for name in names if name not in self._reasons]

    def answers(self, inputs: Inputs) -> dict[str, Array]:
        """Every output but attributions, for all rows."""
        parts: list[list[Array]] = []
        size = _BATCH_OF_LISTS if "items" in self._outputs else _BATCH
        for start in range(0, max(inputs.rows, 1), size):
            some = inputs.take(np.arange(start, min(start + size, inputs.rows)))
            parts.append(self._session.run(self._outputs, {**some.values, MISSING: some.missing}))
        return {name: np.concatenate([part[place] for part in parts]) for place, name in enumerate(self._outputs)}

    def attributions(self, inputs: Inputs) -> Array:
        """What each field did [rows, fields], of a file that says it."""
        return self.reasons(inputs)[ATTRIBUTIONS]

    def reasons(self, inputs: Inputs) -> dict[str, Array]:
        """What each field did, and by `PARTS` and a field's name what the parts of its value did [rows, *parts]."""
        found = []
        for start in range(0, max(inputs.rows, 1), _EXPLAINED):
            some = inputs.take(np.arange(start, min(start + _EXPLAINED, inputs.rows)))
            found.append(self._session.run(self._reasons, {**some.values, MISSING: some.missing,
                                                           EXPLAIN: np.ones(some.rows, dtype=bool)}))
        return {name: np.concatenate([one[place] for one in found]) for place, name in enumerate(self._reasons)}


def adversarial(preparation: Preparation) -> Inputs:
    """Rows no one sends on purpose: all missing, NaN, infinite, the largest numbers, words never seen, long texts."""
    floats = [0.0, np.nan, np.inf, -np.inf, 1.7e308, -1.7e308, 5e-324, 0.0]
    numbers = {"float": floats,
               "int": [0, 0, 2**63 - 1, -(2**63), 1, -1, 2**53 + 1, 0],
               "bool": [False, True, True, False, True, False, True, False]}
    never = ["", "never seen", "Ω≈ç√\t\u00a0\n", "x" * 5000, " ", " null  null ", "\x00", "0 " * 2000]
    dtypes = {"float": np.float64, "int": np.int64, "bool": np.bool_}
    values: dict[str, Array] = {}
    for one in preparation.takes:
        if one.type in LISTS:
            values[one.name] = _lists(one, floats)
        else:
            values[one.name] = (np.array(numbers[one.type], dtype=dtypes[one.type]) if one.type in numbers
                                else np.array(never, dtype=object))
    missing = np.zeros((8, len(preparation.fields)), dtype=bool)
    missing[0] = True
    missing[7, ::2] = True
    return Inputs(values, missing)


def _lists(taken: Taken, numbers: Sequence[float]) -> Array:
    """Each number throughout; in half of the rows only at every other place."""
    limit = float(np.finfo(LISTS[taken.type]).max)
    finite = [float(np.clip(number, -limit, limit)) if np.isfinite(number) else number for number in numbers]
    found = np.repeat(np.array(finite, dtype=LISTS[taken.type])[:, None], taken.tail[0], axis=1)
    found[3::2, 1::2] = np.nan
    return found


def check_parity(exported: Mapping[str, Array], scores: Array, target: Target, what: str) -> None:
    """Raises RunFailed(internal) unless what the file answers is what torch's `scores` mean.

    Probabilities may differ by TOLERANCE and no more. Other numbers may be of any size: by TOLERANCE of the scale on
    which they were learnt (absolute) and TOLERANCE of the number itself (relative), added.
    """
    name, expected = decode(scores, target)
    found = np.asarray(exported[name], dtype=np.float64)
    if found.shape != expected.shape or not np.isfinite(found).all():
        raise _differs(what, f"{name} is not finite or of shape {found.shape}, not {expected.shape}")
    scale = 1.0 if name == "probabilities" else unit_of(target) + np.abs(expected)
    apart = np.abs(found - expected) / scale
    if apart.size and float(apart.max()) > TOLERANCE:
        raise _differs(what, f"{name} differs by {float(apart.max()):.2g} in row {int(apart.max(axis=-1).argmax())}"
                       if apart.ndim > 1 else f"{name} differs by {float(apart.max()):.2g}")
    if wrong := labels_apart(exported, scores, target, TOLERANCE):
        raise _differs(what, f"{wrong} labels differ")


def align(probabilities: Array, theirs: Sequence[str], ours: Sequence[str]) -> Array:
    """Columns of another model's classes in our order; a class it does not know has probability 0."""
    aligned = np.zeros((len(probabilities), len(ours)))
    for place, name in enumerate(ours):
        if name in theirs:
            aligned[:, place] = probabilities[:, list(theirs).index(name)]
    return aligned


def _differs(what: str, how: str) -> RunFailed:
    return RunFailed("internal", f"the exported model does not answer as the trained one on {what}: {how}",
                     "this is a bug of the exporter; nothing was published")
