"""Reads an ONNX file as bytes, running nothing of it: which operators it uses, and whether it points outside itself.

Only lengths and a few tags of the protobuf wire format are followed, so that a large model is not copied and a
hostile one meets no native parser before its operators were compared with the signed list.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from lepton.errors import Refused

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_DEPTH = 64
"""Nested subgraphs beyond any real model, below Python's recursion limit."""

# Field numbers of onnx.proto that lead to operators, functions or outside data.
_MODEL_GRAPH, _MODEL_TRAINING, _MODEL_FUNCTIONS = 7, 20, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_NODE_ATTRIBUTE, _NODE_OP_TYPE, _NODE_DOMAIN = 5, 4, 7
_FUNCTION_NODE = 7
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = 5, 6, 10, 11
_ATTRIBUTE_SPARSE, _ATTRIBUTE_SPARSES = 22, 23
_SPARSE_VALUES, _SPARSE_INDICES = 1, 2
_TENSOR_EXTERNAL, _TENSOR_LOCATION = 13, 14
_ENTRY_KEY, _ENTRY_VALUE = 1, 2

STANDARD_DOMAINS = frozenset({"ai.onnx", "ai.onnx.ml"})
"""Domains whose operators are defined by ONNX itself; everything else is custom code."""

_WINDING = frozenset({"If", "Loop", "Scan", "SequenceMap"})
"""Operators of ONNX that run a graph within theirs, perhaps again and again."""


@dataclass(slots=True)
class Contents:
    """`operators` as `domain::name`, the default domain written `ai.onnx`."""

    operators: set[str] = field(default_factory=set)
    external_data: bool = False
    files: set[str] = field(default_factory=set)
    """Files outside the model that it names."""
    functions: int = 0
    nodes: int = 0


def contents(data: bytes) -> Contents:
    """Raises Refused when `data` is not one ONNX model."""
    found = Contents()
    try:
        for number, value in _members(memoryview(data)):
            if number == _MODEL_GRAPH:
                _graph(_message(value), found, 0)
            elif number == _MODEL_FUNCTIONS:
                found.functions += 1
                _nodes(_message(value), _FUNCTION_NODE, found, 0)
            elif number == _MODEL_TRAINING:
                raise Refused("the file carries training graphs", remedy="export it for inference")
    except (ValueError, IndexError) as error:
        raise Refused(f"the file is no ONNX model: {error}", remedy="publish the model again") from error
    if not found.nodes:
        raise Refused("the file is no ONNX model: it holds no operators", remedy="publish the model again")
    return found


def is_straight(operators: Iterable[str]) -> bool:
    """Whether a model of these operators runs the same way whatever its values are; nobody knows of custom ones."""
    split = [_normal(name).partition("::") for name in operators]
    return all(domain in STANDARD_DOMAINS and operator not in _WINDING for domain, _, operator in split)


def check(data: bytes, allowed: Iterable[str], domains: Collection[str] = ()) -> None:
    """Raises Refused unless the file is self-contained and uses exactly operators of the `allowed` list.

    They must be ONNX's own, or of one of the other `domains`.
    """
    found = contents(data)
    if found.external_data:
        named = ", ".join(f"`{name}`" for name in sorted(found.files)) or "without a name"
        raise Refused(f"the model points to data outside its file: {named}",
                      remedy="export it with its weights inside")
    if found.functions:
        raise Refused("the model defines functions of its own", remedy="inline them when exporting")
    custom = sorted(name for name in found.operators if name.partition("::")[0] not in STANDARD_DOMAINS.union(domains))
    if custom:
        raise Refused(f"the model uses operators outside ONNX: {', '.join(custom)}", field="operators",
                      remedy="export it with standard operators only, or allow their domain by name in "
                             "LEPTON_PREDICTOR_OPERATOR_DOMAINS")
    unlisted = sorted(found.operators - {_normal(name) for name in allowed})
    if unlisted:
        raise Refused(f"the model uses operators its signed manifest does not list: {', '.join(unlisted)}",
                      field="operators", remedy="publish it again; the manifest must list every operator")


def _normal(name: str) -> str:
    domain, separator, operator = name.rpartition("::")
    return f"{domain or 'ai.onnx'}::{operator}" if separator else f"ai.onnx::{name}"


def _graph(data: memoryview, found: Contents, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise ValueError(f"graphs nested deeper than {_MAX_DEPTH}")
    _nodes(data, _GRAPH_NODE, found, depth)
    for number, value in _members(data):
        if number == _GRAPH_INITIALIZER:
            _tensor(_message(value), found)
        elif number == _GRAPH_SPARSE:
            _sparse(_message(value), found)


def _nodes(data: memoryview, node_number: int, found: Contents, depth: int) -> None:
    for number, value in _members(data):
        if number == node_number:
            _node(_message(value), found, depth)


def _node(data: memoryview, found: Contents, depth: int) -> None:
    domain, operator = "", ""
    for number, value in _members(data):
        if number == _NODE_OP_TYPE:
            operator = str(_message(value), "utf-8")
        elif number == _NODE_DOMAIN:
            domain = str(_message(value), "utf-8")
        elif number == _NODE_ATTRIBUTE:
            _attribute(_message(value), found, depth)
    found.nodes += 1
    found.operators.add(f"{domain or 'ai.onnx'}::{operator}")


def _attribute(data: memoryview, found: Contents, depth: int) -> None:
    for number, value in _members(data):
        if number in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
            _graph(_message(value), found, depth + 1)
        elif number in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS):
            _tensor(_message(value), found)
        elif number in (_ATTRIBUTE_SPARSE, _ATTRIBUTE_SPARSES):
            _sparse(_message(value), found)


def _sparse(data: memoryview, found: Contents) -> None:
    for number, value in _members(data):
        if number in (_SPARSE_VALUES, _SPARSE_INDICES):
            _tensor(_message(value), found)


def _tensor(data: memoryview, found: Contents) -> None:
    for number, value in _members(data):
        if number == _TENSOR_EXTERNAL or (number == _TENSOR_LOCATION and value == 1):
            found.external_data = True
        if number == _TENSOR_EXTERNAL:
            entry = {part: str(_message(text), "utf-8") for part, text in _members(_message(value))}
            if entry.get(_ENTRY_KEY) == "location":
                found.files.add(entry.get(_ENTRY_VALUE, ""))


def _message(value: memoryview | int) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number stands where a message belongs")
    return value


def _members(data: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    position, end = 0, len(data)
    while position < end:
        tag, position = _varint(data, position)
        number, kind = tag >> 3, tag & 7
        if kind == _BYTES:
            length, position = _varint(data, position)
            if position + length > end:
                raise ValueError("it ends inside a member")
            yield number, data[position:position + length]
            position += length
        elif kind == _VARINT:
            value, position = _varint(data, position)
            yield number, value
        elif kind in (_FIXED64, _FIXED32):
            position += 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind}")
    if position != end:
        raise ValueError("it ends inside a number")


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("a number longer than 64 bits")
