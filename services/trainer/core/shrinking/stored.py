"""Weights that lie in the file in 8 bits and count in 32.

For what no operator of ONNX multiplies in 8 bits row by row: recurrent layers (what some runtimes have of their own for
LSTM rounds a batch as a whole, and is no ONNX), tables of words, users and states, and convolutions of which no bounds
were measured. A scale each unit, or each row of a table; a runtime widens constants once, when it loads the file.
"""

import numpy as np
from onnx import NodeProto, TensorProto

from services.trainer.core.shrinking.opened import Array, Opened, attribute, node

RECURRENT = ("RNN", "LSTM", "GRU")
TABLES = ("Gather", "Add")
"""What takes rows of a table, or adds one to each row: of words, users, states, steps or items."""
_LEVELS = 127
_TINY = np.float32(1e-20)
# Weights below which scales and operators beside them would take what the bits give.
_LEAST = 256
_PLACES = {"RNN": (1, 2), "LSTM": (1, 2), "GRU": (1, 2), "Conv": (1,), "Gather": (0,), "Add": (1,)}
"""Which inputs are weights."""


def store(opened: Opened, operators: tuple[str, ...]) -> int:
    """Change the weights of these operators; returns of how many it changed any. Biases stay as they are."""
    wide: dict[str, str] = {}
    changed = 0
    for one in opened.network():
        if one.op_type not in operators or attribute(one, "axis", 0) != 0:
            continue
        before: list[NodeProto] = []
        kept = [*one.input]
        for place in _PLACES[one.op_type]:
            name = one.input[place]
            weight = opened.weight(name)
            if weight is None or weight.ndim < 2 or weight.size < _LEAST:
                continue
            if name not in wide:
                # Of a convolution a unit is [in, ...]; of others, as rows of tables, what lies along the last axis.
                of_unit = tuple(range(1 if one.op_type == "Conv" else weight.ndim - 1, weight.ndim))
                before += _widened(opened, name, weight, of_unit)
                wide[name] = before[-1].output[0]
            one.input[place] = wide[name]
        changed += kept != [*one.input]
        opened.swap(one, [*before, one])
    return changed


def _widened(opened: Opened, name: str, weight: Array, of_unit: tuple[int, ...]) -> list[NodeProto]:
    """Operators from the 8-bit weight back to 32 bits."""
    scale = np.maximum(np.abs(weight).max(axis=of_unit, keepdims=True) / _LEVELS, _TINY).astype(np.float32)
    whole = opened.put(f"int8:{name}:stored", np.rint(weight / scale).astype(np.int8))
    return [node("Cast", [whole], f"int8:{name}:cast", to=TensorProto.FLOAT),
            node("Mul", [f"int8:{name}:cast", opened.put(f"int8:{name}:scale", scale)], f"int8:{name}:wide")]
