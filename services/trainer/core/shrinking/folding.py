"""A normalisation over the batch as part of the convolution before it, which then has a bias and can be pruned."""

import numpy as np
from onnx import NodeProto

from services.trainer.core.shrinking.opened import Array, Opened, attribute

_EPSILON = 1e-5


def fold(opened: Opened) -> int:
    """Fold each that only scales what one convolution says; returns how many there were. Answers stay, but for
    rounding in 32 bits."""
    makers = {one.output[0]: one for one in opened.network() if one.op_type == "Conv"}
    folded = 0
    for one in opened.network():
        maker = makers.get(one.input[0]) if one.op_type == "BatchNormalization" else None
        if maker is None or len(maker.input) > 2 or len(opened.readers(maker.output[0])) != 1:
            continue
        figures = [opened.weight(name) for name in (maker.input[1], *one.input[1:5])]
        known = [value for value in figures if value is not None]
        if len(known) == len(figures) and len(opened.readers(maker.input[1])) == 1:
            _join(opened, maker, one, known)
            folded += 1
    return folded


def _join(opened: Opened, maker: NodeProto, normal: NodeProto, figures: list[Array]) -> None:
    weight, scale, shift, mean, variance = (value.astype(np.float64) for value in figures)
    grown = scale / np.sqrt(variance + attribute(normal, "epsilon", _EPSILON))
    opened.put(maker.input[1], (weight * grown.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.float32))
    maker.input.append(opened.put(f"{normal.output[0]}:bias", (shift - mean * grown).astype(np.float32)))
    maker.output[0] = normal.output[0]
    opened.swap(normal, [])
