"""Weights, and what they multiply, in eight bits.

Weights are symmetric, one scale an output (Jacob et al., 2018), within 7 bits: two products of 8 bits overflow the
16-bit sums of processors without VNNI. *Dynamic* takes the scale of what is multiplied from each row by itself (per
token, Yao et al., 2022), so that a row's answer does not depend on the rows it shares a batch with, as it would with
ONNX's DynamicQuantizeLinear. *Static* takes it from the training rows, once. Recurrent layers and tables only store
their weights in 8 bits (`stored`), and so do convolutions where nothing was measured.
"""

from collections.abc import Mapping

import numpy as np
from onnx import NodeProto, TensorProto

from services.trainer.core.shrinking import stored
from services.trainer.core.shrinking.opened import Array, Opened, node
from services.trainer.core.shrinking.weighted import Weighted, weighted

_WEIGHT_LEVELS, _ROW_LEVELS, _STEPS = 63, 127, 255
# A row, or an output's weights, that are all zero.
_TINY = np.float32(1e-20)
# An int32 bias keeps a bit of head room.
_BIAS_LEVELS = 2.0**30
# Standardised values have long tails: what lies beyond saturates, and the rest keeps its resolution.
_TAIL = 0.0001


def dynamic(opened: Opened) -> int:
    """Change every product with a constant matrix, and how other weights are stored; returns how many it changed."""
    found = weighted(opened, ("Gemm", "MatMul"))
    for one in found:
        opened.swap(one.node, _by_row(opened, one))
    return len(found) + stored.store(opened, (*stored.RECURRENT, *stored.TABLES, "Conv"))


def static(opened: Opened, activations: Mapping[str, Array]) -> int:
    """Change every product and convolution with constant weights, and how others are stored; returns how many it
    changed.

    `activations` are the values, on training rows, of what each of them multiplies.
    """
    found, given = weighted(opened), {}
    for one in found:
        if one.given not in given:
            given[one.given] = _bounded(opened, one.given, activations[one.given])
        nodes, name, scale = given[one.given]
        opened.swap(one.node, [*nodes, *_by_range(opened, one, name, scale)])
        given[one.given] = ([], name, scale)
    return len(found) + stored.store(opened, (*stored.RECURRENT, *stored.TABLES))


def _by_row(opened: Opened, one: Weighted) -> list[NodeProto]:
    x, y = one.given, one.node.output[0]
    scale = np.maximum(np.abs(one.matrix).max(axis=0) / _WEIGHT_LEVELS, _TINY).astype(np.float32)
    whole = opened.put(f"int8:{y}:weight:int8", np.rint(one.matrix / scale).astype(np.int8))
    last = opened.put("int8:last_axis", np.array([-1], dtype=np.int64))
    levels = opened.put("int8:levels", np.array(_ROW_LEVELS, dtype=np.float32))
    tiny = opened.put("int8:tiny", np.array(_TINY))
    nodes = [node("Abs", [x], f"int8:{y}:size"),
             node("ReduceMax", [f"int8:{y}:size", last], f"int8:{y}:largest", keepdims=1),
             node("Div", [f"int8:{y}:largest", levels], f"int8:{y}:step"),
             node("Max", [f"int8:{y}:step", tiny], f"int8:{y}:scale"),
             node("Div", [x, f"int8:{y}:scale"], f"int8:{y}:scaled"),
             node("Round", [f"int8:{y}:scaled"], f"int8:{y}:rounded"),
             node("Cast", [f"int8:{y}:rounded"], f"int8:{y}:int8", to=TensorProto.INT8),
             node("MatMulInteger", [f"int8:{y}:int8", whole], f"int8:{y}:sums"),
             node("Cast", [f"int8:{y}:sums"], f"int8:{y}:wide", to=TensorProto.FLOAT),
             node("Mul", [f"int8:{y}:wide", f"int8:{y}:scale"], f"int8:{y}:of_row")]
    spread = opened.put(f"int8:{y}:weight:scale", scale)
    if one.bias is None:
        return [*nodes, node("Mul", [f"int8:{y}:of_row", spread], y)]
    return [*nodes, node("Mul", [f"int8:{y}:of_row", spread], f"int8:{y}:product"),
            node("Add", [f"int8:{y}:product", one.node.input[2]], y)]


def _bounded(opened: Opened, name: str, values: Array) -> tuple[list[NodeProto], str, float]:
    """A tensor rounded to 256 steps between the bounds that its values keep but for their tails."""
    low, high = (float(one) for one in np.quantile(values, [_TAIL, 1 - _TAIL]))
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32(max((high - low) / _STEPS, float(_TINY)))
    spread = opened.put(f"int8:{name}:scale", np.array(scale))
    zero = opened.put(f"int8:{name}:zero", np.array(np.clip(np.rint(-low / scale), 0, _STEPS), dtype=np.uint8))
    nodes = [node("QuantizeLinear", [name, spread, zero], f"int8:{name}:uint8"),
             node("DequantizeLinear", [f"int8:{name}:uint8", spread, zero], f"int8:{name}:stepped")]
    return nodes, f"int8:{name}:stepped", float(scale)


def _by_range(opened: Opened, one: Weighted, given: str, scale: float) -> list[NodeProto]:
    """The same operator on a rounded tensor, with rounded weights and, at the scale of both, a rounded bias."""
    y, weight, axis = one.node.output[0], one.matrix, 0 if one.operator == "Conv" else 1
    others = tuple(place for place in range(weight.ndim) if place != axis)
    steps = np.maximum(np.abs(weight).max(axis=others) / _WEIGHT_LEVELS, _TINY).astype(np.float32)
    if one.bias is not None:
        steps = np.maximum(steps, np.abs(one.bias) / (scale * _BIAS_LEVELS)).astype(np.float32)
    shape = [-1 if place == axis else 1 for place in range(weight.ndim)]
    spread = opened.put(f"int8:{y}:weight:scale", steps)
    rounded = opened.put(f"int8:{y}:weight:int8", np.rint(weight / steps.reshape(shape)).astype(np.int8))
    nodes = [node("DequantizeLinear", [rounded, spread], f"int8:{y}:weight:stepped", axis=axis)]
    inputs = [given, f"int8:{y}:weight:stepped"]
    if one.bias is not None:
        both = (np.float32(scale) * steps).astype(np.float32)
        bias = opened.put(f"int8:{y}:bias:int32", np.rint(one.bias / both).astype(np.int32))
        both_name = opened.put(f"int8:{y}:bias:scale", both)
        nodes.append(node("DequantizeLinear", [bias, both_name], f"int8:{y}:bias:stepped", axis=0))
        inputs.append(f"int8:{y}:bias:stepped")
    changed = NodeProto()
    changed.CopyFrom(one.node)
    changed.input[:] = inputs
    if one.operator == "Gemm":
        # The matrix lies [in, out] now.
        for said in changed.attribute:
            if said.name == "transB":
                said.i = 0
    return [*nodes, changed]
