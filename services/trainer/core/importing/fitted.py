"""A foreign graph between the Pipeline's fields and the platform's answers: missing values filled, classes in order.

It takes one input of all fields in the Pipeline's order [rows, fields], or an input a field by its name, [rows] or
[rows, 1]. It answers one probability a class [rows, classes], or one number [rows] or [rows, 1].
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, compose, helper

from services.trainer.core.dataset import Target
from services.trainer.core.emitting.building import Graph
from services.trainer.core.export import answers
from services.trainer.core.export.graph import Exported, input_specs, takes_of
from services.trainer.core.importing.opened import unfit
from services.trainer.core.preparing.numbers import Numbers
from services.trainer.core.preparing.part import MISSING
from services.trainer.core.preparing.preparation import Preparation

THEIRS = "imported:"
_NUMBERS = ("float", "int", "bool")
_FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE)
_NUMERIC = (*_FLOATS, TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL)


def fitted(model: onnx.ModelProto, preparation: Preparation, target: Target, classes: Sequence[str]) -> Exported:
    """The file to serve; `classes` name the columns of its probabilities. Raises RunFailed(parameter)."""
    graph = Graph()
    held = {one.name for one in model.graph.initializer}
    inputs = [one for one in model.graph.input if one.name not in held]
    theirs = compose.add_prefix_graph(model.graph, THEIRS)
    _fill(graph, preparation, inputs)
    graph.nodes.extend(theirs.node)
    graph.constants.extend(theirs.initializer)
    _answer(graph, model.graph.output, target, classes)
    mask = helper.make_tensor_value_info(MISSING, TensorProto.BOOL, ["mask_rows", len(preparation.fields)])
    graph.constant(MISSING, np.zeros((1, len(preparation.fields)), dtype=bool))
    whole = helper.make_model(
        helper.make_graph(graph.nodes, "lepton", [*takes_of(preparation), mask], answers.declared(target),
                          graph.constants),
        producer_name="lepton", ir_version=min(model.ir_version, 10), opset_imports=model.opset_import)
    try:
        onnx.checker.check_model(whole, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise unfit(f"the model does not fit the Pipeline: {str(error).splitlines()[0]}",
                    "give it one input of all fields, or one a field, and any number of rows") from error
    operators = sorted({f"{node.domain or 'ai.onnx'}::{node.op_type}" for node in _all_nodes(whole.graph)})
    return Exported(whole.SerializeToString(deterministic=True), input_specs(preparation, explained=False),
                    answers.specs(target), tuple(operators))


def _fill(graph: Graph, preparation: Preparation, inputs: Sequence[onnx.ValueInfoProto]) -> None:
    kinds = {one.name: one.type for one in preparation.takes}
    if lists := [name for name, kind in kinds.items() if kind not in (*_NUMBERS, "category", "text")]:
        raise unfit(f"fields of lists cannot be given to an imported model: {', '.join(lists)}",
                    "import it into a Pipeline without them")
    shape = _dims(inputs[0]) if len(inputs) == 1 else []
    if len(shape) == 2 and shape[1] in (0, len(kinds)) and (len(kinds) > 1 or inputs[0].name not in kinds):
        _matrix(graph, preparation, inputs[0], kinds)
        return
    if {one.name for one in inputs} != set(kinds):
        raise unfit(f"the model takes {', '.join(_told(one) for one in inputs) or 'nothing'}",
                    f"give it one input [rows, {len(kinds)}], or one of each name: {', '.join(kinds)}")
    for one in inputs:
        dims, wanted = _dims(one), one.type.tensor_type.elem_type
        if len(dims) > 2 or not dims or (len(dims) == 2 and dims[1] not in (0, 1)):
            raise unfit(f"the input {_told(one)} is no column", f"let {one.name} be [rows] or [rows, 1]")
        if (wanted == TensorProto.STRING) == (kinds[one.name] in _NUMBERS) or (
                wanted not in (*_NUMERIC, TensorProto.STRING)):
            raise unfit(f"the input {_told(one)} is of another type than the field, {kinds[one.name]}",
                        "let numbers be FLOAT, DOUBLE, INT64 or BOOL, and categories STRING")
        filled = _filled(graph, preparation, one.name, kinds[one.name])
        if wanted != TensorProto.STRING:
            filled = graph.add("Cast", [filled], f"field:{one.name}:cast", to=wanted)
        _given(graph, filled, one.name, column=len(dims) == 2)


def _matrix(graph: Graph, preparation: Preparation, one: onnx.ValueInfoProto, kinds: Mapping[str, str]) -> None:
    if texts := [name for name, kind in kinds.items() if kind not in _NUMBERS]:
        raise unfit(f"an input of all fields holds numbers, and these are text: {', '.join(texts)}",
                    "give the model one input a field, by name")
    if one.type.tensor_type.elem_type not in _FLOATS:
        raise unfit(f"the input {_told(one)} is of no floating point type", "let it be FLOAT or DOUBLE")
    axis = graph.constant("fields:axis", np.array([1], dtype=np.int64))
    columns = [graph.add("Unsqueeze", [_filled(graph, preparation, name, kind), axis], f"field:{name}:column")
               for name, kind in kinds.items()]
    whole = graph.add("Concat", columns, "fields:all", axis=1)
    graph.add("Cast", [whole], THEIRS + one.name, to=one.type.tensor_type.elem_type)


def _filled(graph: Graph, preparation: Preparation, name: str, kind: str) -> str:
    """The field [rows], what is missing filled as the Pipeline says; numbers in 64 bits."""
    prefix = f"field:{name}"
    place = graph.constant(f"{prefix}:place", np.array([list(preparation.fields).index(name)], dtype=np.int64))
    column = graph.add("Gather", [MISSING, place], f"{prefix}:mask", axis=1)
    axis = graph.constant(f"{prefix}:mask_axis", np.array([1], dtype=np.int64))
    absent = graph.add("Squeeze", [column, axis], f"{prefix}:absent")
    if kind not in _NUMBERS:
        mode = next((one.mode for one in preparation.statistics if one.field == name), "")
        return graph.add("Where", [absent, graph.constant(f"{prefix}:fill", np.array(mode, dtype=object)), name],
                         f"{prefix}:filled")
    fills = {one.name: one.fill for part in preparation.parts if isinstance(part, Numbers) for one in part.numbers}
    wide = graph.add("Cast", [name], f"{prefix}:wide", to=TensorProto.DOUBLE)
    if kind == "float":
        strange = graph.add("Or", [graph.add("IsNaN", [wide], f"{prefix}:nan"), _infinite(graph, wide, prefix)],
                            f"{prefix}:strange")
        absent = graph.add("Or", [absent, strange], f"{prefix}:unusable")
    fill = graph.constant(f"{prefix}:fill", np.array(fills.get(name, 0.0), dtype=np.float64))
    return graph.add("Where", [absent, fill, wide], f"{prefix}:filled")


def _infinite(graph: Graph, wide: str, prefix: str) -> str:
    """What 32 bits hold no more is as good as infinite: the model would answer it with NaN."""
    limit = graph.constant(f"{prefix}:limit", np.array(float(np.finfo(np.float32).max), dtype=np.float64))
    return graph.add("Greater", [graph.add("Abs", [wide], f"{prefix}:size"), limit], f"{prefix}:infinite")


def _given(graph: Graph, value: str, name: str, column: bool) -> None:
    if column:
        axis = graph.constant(f"field:{name}:axis", np.array([1], dtype=np.int64))
        graph.add("Unsqueeze", [value, axis], THEIRS + name)
    else:
        graph.add("Identity", [value], THEIRS + name)


def _answer(graph: Graph, outputs: Sequence[onnx.ValueInfoProto], target: Target, classes: Sequence[str]) -> None:
    floats = [one for one in outputs if one.type.tensor_type.elem_type in _FLOATS]
    if target.task == "regression":
        if len(floats) != 1 or any(size > 1 for size in _dims(floats[0])[1:]):
            raise unfit(f"the model answers {', '.join(map(_told, outputs))}", "let it answer one number, [rows, 1]")
        flat = graph.constant("answer:flat", np.array([-1], dtype=np.int64))
        number = graph.add("Reshape", [THEIRS + floats[0].name, flat], "answer:number")
        graph.add("Cast", [number], "prediction", to=TensorProto.FLOAT)
        return
    if sorted(classes) != sorted(target.classes):
        raise unfit(f"the model knows the classes {', '.join(classes)}, the Pipeline {', '.join(target.classes)}",
                    "name the model's classes, in the order of its probabilities")
    wide = [one for one in floats if len(_dims(one)) == 2 and _dims(one)[1] in (0, len(classes))]
    if len(wide) != 1:
        raise unfit(f"the model answers {', '.join(map(_told, outputs))}",
                    f"let it answer one probability a class, [rows, {len(classes)}] (without ZipMap)")
    order = graph.constant("answer:order", np.array([list(classes).index(one) for one in target.classes]))
    ours = graph.add("Gather", [THEIRS + wide[0].name, order], "answer:ordered", axis=1)
    graph.add("Cast", [ours], "probabilities", to=TensorProto.FLOAT)
    answers.best_of_probabilities(graph, target)


def _dims(one: onnx.ValueInfoProto) -> list[int]:
    """Sizes; 0 where one is free."""
    return [dim.dim_value for dim in one.type.tensor_type.shape.dim]


def _told(one: onnx.ValueInfoProto) -> str:
    tensor = one.type.HasField("tensor_type")
    kind = TensorProto.DataType.Name(one.type.tensor_type.elem_type) if tensor else "no tensor"
    return f"{one.name} {kind} [{', '.join(str(size or '?') for size in _dims(one))}]"


def _all_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    found = list(graph.node)
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                found += _all_nodes(inner)
    return found
