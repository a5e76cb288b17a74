"""A network in 16-bit floats, for the GPUs that calculate with them twice as fast or more.

From the first product with constant weights on, everything is 16 bits wide; what leads there (the preparation, and the
indices a network takes from it) and what leaves (the scores, and so the answer) keeps 32.
"""

import numpy as np
import onnx
from onnx import NodeProto, TensorProto

from services.trainer.core.export.graph import NETWORK
from services.trainer.core.shrinking.opened import Opened, attribute, node

# Standardised values beyond this say no more than "far away", and their sums would leave the range of 16 bits.
_LIMIT = 1000.0
_BEGINS = ("Gemm", "MatMul", "Conv", "Gather", "RNN", "LSTM", "GRU")
_FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE)


def halve(opened: Opened) -> int:
    """Change the network; returns how many operators are in 16 bits now."""
    floats = _float_tensors(opened)
    half: dict[str, str] = {}
    changed = 0
    for one in opened.network():
        if not (any(name in half for name in one.input) or _begins(opened, one)):
            continue
        if one.op_type == "Cast" and attribute(one, "to", 0) not in _FLOATS:
            continue  # to a whole number or a flag: it reads the 32 bits
        before = [step for place, name in enumerate(one.input) if name in floats or opened.weight(name) is not None
                  for step in _enter(opened, one, place, name, half)]
        for place, name in enumerate(one.output):
            if name in floats:
                half[name] = one.output[place] = f"half:{name}"
        one.name = f"{NETWORK}:{one.output[0]}"
        _say_half(one)
        opened.swap(one, [*before, one])
        changed += 1
    _leave(opened, half)
    return changed


def _enter(opened: Opened, one: NodeProto, place: int, name: str, half: dict[str, str]) -> list[NodeProto]:
    """Have an input come in 16 bits; the operators that make it so, if any are needed."""
    weight = opened.weight(name)
    if name in half:
        one.input[place] = half[name]
        return []
    if weight is not None:
        one.input[place] = opened.put(f"half:{name}", weight.astype(np.float16))
        return []
    low = opened.put("half::low", np.array(-_LIMIT, dtype=np.float32))
    high = opened.put("half::high", np.array(_LIMIT, dtype=np.float32))
    half[name] = one.input[place] = f"half:{name}"
    return [node("Clip", [name, low, high], f"half:{name}:bounded"),
            node("Cast", [f"half:{name}:bounded"], f"half:{name}", to=TensorProto.FLOAT16)]


def _leave(opened: Opened, half: dict[str, str]) -> None:
    """Give those who still read a tensor in 32 bits that tensor."""
    made = {name for one in opened.nodes for name in one.output}
    for name, short in half.items():
        if name in made or not (opened.readers(name) or opened.answers(name)):
            continue
        maker = next(one for one in opened.nodes if short in one.output)
        opened.swap(maker, [maker, node("Cast", [short], name, to=TensorProto.FLOAT)])


def _begins(opened: Opened, one: NodeProto) -> bool:
    return one.op_type in _BEGINS and any(
        weight is not None and weight.ndim > 1 for weight in map(opened.weight, one.input))


def _say_half(one: NodeProto) -> None:
    """Where an operator names the type of what it makes."""
    for said in one.attribute:
        if said.name == "to" and said.i in _FLOATS:
            said.i = TensorProto.FLOAT16
        if said.name == "value" and said.t.data_type == TensorProto.FLOAT:
            said.t.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(said.t).astype(np.float16)))


def _float_tensors(opened: Opened) -> set[str]:
    known = onnx.shape_inference.infer_shapes(opened.model, strict_mode=True).graph
    return {one.name for one in [*known.value_info, *known.output]
            if one.type.tensor_type.elem_type == TensorProto.FLOAT}
