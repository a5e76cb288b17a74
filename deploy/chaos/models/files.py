"""ONNX files for faults: a straight line through the flow's rows, right or wrong, slow, or with a hole in it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from lepton.errors import Invalid

CLASSES = ("false", "true")
"""In the order of the file's probabilities."""

_STEEP = 6.0
_RIDGE = 1e-3
_SIDE = 512
"""Of the matrices that a slow model multiplies: a quarter of a billion operations a product, some milliseconds."""
_OPSET = 20
_IR = 10

Floats = NDArray[np.float32]


def line(rows: Sequence[Mapping[str, Any]], fields: Sequence[str], label: str, *, wrong: bool = False,
         hole: tuple[str, float] | None = None, products: int = 0) -> bytes:
    """A classifier of [rows, fields] in the order of `fields`; `wrong`: it says the opposite of what it learnt.

    `hole`: where this field has this value it answers NaN. `products` of large matrices are worked out for every batch
    of rows, and change no answer. Raises Invalid where the label is no truth value or a
    field no number.
    """
    weights, offset = _learnt(rows, fields, label)
    sign = -_STEEP if wrong else _STEEP
    constants = {"weights": weights[:, None] * np.float32(sign), "offset": _floats([offset * sign]),
                 "one": _floats([1])}
    nodes = [helper.make_node("MatMul", ["fields", "weights"], ["product"]),
             helper.make_node("Add", ["product", "offset"], ["sum"]),
             helper.make_node("Sigmoid", ["sum"], ["sigmoid"])]
    chance = _holed(nodes, constants, "sigmoid", fields.index(hole[0]), hole[1]) if hole else "sigmoid"
    if products:
        chance = _slowed(nodes, constants, chance, products)
    nodes += [helper.make_node("Sub", ["one", chance], ["other"]),
              helper.make_node("Concat", ["other", chance], ["probabilities"], axis=1)]
    graph = helper.make_graph(
        nodes, "fault", [helper.make_tensor_value_info("fields", TensorProto.FLOAT, ["rows", len(fields)])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["rows", len(CLASSES)])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()])
    model = helper.make_model(graph, producer_name="chaos", ir_version=_IR,
                              opset_imports=[helper.make_opsetid("", _OPSET)])
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _floats(values: Sequence[float]) -> Floats:
    return np.array(values, dtype=np.float32)


def _learnt(rows: Sequence[Mapping[str, Any]], fields: Sequence[str], label: str) -> tuple[Floats, float]:
    """Weights and offset of a ridge regression on -1 and 1; what is missing counts as the field's mean."""
    known = [row for row in rows if isinstance(row.get(label), bool)]
    if not known:
        raise Invalid("a model that is a fault tells true from false", field="flow.label",
                      remedy="take a Pipeline whose label is a bool")
    try:
        values = np.array([[np.nan if row.get(one) is None else float(row[one]) for one in fields] for row in known])
    except (TypeError, ValueError) as failure:
        raise Invalid(f"a model that is a fault takes numbers alone: {failure}", field="flow.rows",
                      remedy="take a Pipeline whose fields are numbers") from failure
    means = np.nan_to_num(np.nanmean(values, axis=0))
    centred = np.where(np.isnan(values), means, values) - means
    truth = np.array([1.0 if row[label] else -1.0 for row in known])
    weights = np.linalg.solve(centred.T @ centred + _RIDGE * len(known) * np.eye(len(fields)),
                              centred.T @ (truth - truth.mean()))
    return weights.astype(np.float32), float(truth.mean() - means @ weights)


def _holed(nodes: list[onnx.NodeProto], constants: dict[str, Any], chance: str, place: int, value: float) -> str:
    constants |= {"place": np.array([place], dtype=np.int64), "value": _floats([value]),
                  "nothing": _floats([np.nan])}
    nodes += [helper.make_node("Gather", ["fields", "place"], ["looked_at"], axis=1),
              helper.make_node("Equal", ["looked_at", "value"], ["hit"]),
              helper.make_node("Where", ["hit", "nothing", chance], ["holed"])]
    return "holed"


def _slowed(nodes: list[onnx.NodeProto], constants: dict[str, Any], chance: str, products: int) -> str:
    """Nothing is added, after `products` matrix products that no optimiser may leave out: they hang on the number of
    rows, which is known only when rows come.

    Each matrix is full of 1 / side, and so is its product with itself: no power of it grows or vanishes.
    """
    constants |= {"first": np.array([0], dtype=np.int64), "side": _floats([_SIDE]), "nought": _floats([0]),
                  "square": np.array([_SIDE, _SIDE], dtype=np.int64)}
    nodes += [helper.make_node("Shape", ["fields"], ["shape"]),
              helper.make_node("Gather", ["shape", "first"], ["whole"]),
              helper.make_node("Cast", ["whole"], ["rows"], to=TensorProto.FLOAT),
              helper.make_node("Mul", ["rows", "side"], ["area"]),
              helper.make_node("Div", ["rows", "area"], ["each"]),
              helper.make_node("Expand", ["each", "square"], ["power_0"]),
              *(helper.make_node("MatMul", [f"power_{number}", "power_0"], [f"power_{number + 1}"])
                for number in range(products)),
              helper.make_node("ReduceMax", [f"power_{products}"], ["largest"], keepdims=0),
              # The largest is above nought, so that the smaller of both is nought.
              helper.make_node("Min", ["largest", "nought"], ["nothing_more"]),
              helper.make_node("Add", [chance, "nothing_more"], ["slowed"])]
    return "slowed"
