"""The operators of a file are read without running it, and what must not be loaded is refused."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper

from lepton.errors import Refused
from services.predictor.core.graph import check, contents, is_straight
from tests.harness.onnx_models import Linear, operators

TINY = Linear({"amount": "float", "country": "category"}, classes=("no", "yes"))


def nested() -> ModelProto:
    """An If whose branches hold operators of their own."""
    def branch(name: str, operator: str) -> Any:
        return helper.make_graph([helper.make_node(operator, ["x"], [name])], name, [],
                                 [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"])])
    graph = helper.make_graph(
        [helper.make_node("If", ["flag"], ["y"], then_branch=branch("a", "Neg"), else_branch=branch("b", "Abs"))],
        "g", [helper.make_tensor_value_info("flag", TensorProto.BOOL, []),
              helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N"])])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_operators_are_those_the_onnx_package_reads() -> None:
    for data in (TINY.build(), nested().SerializeToString()):
        found = contents(data)
        assert sorted(found.operators) == operators(data)
        assert not found.external_data


def test_a_file_with_exactly_the_listed_operators_passes() -> None:
    data = TINY.build()
    check(data, operators(data))
    check(data, [name.removeprefix("ai.onnx") for name in operators(data)])


def test_a_model_is_straight_unless_values_may_have_it_loop_or_nobody_knows() -> None:
    assert is_straight(["ai.onnx::MatMul", "Relu", "ai.onnx.ml::Scaler"])
    assert not any(is_straight(["ai.onnx::MatMul", name])
                   for name in ("ai.onnx::Loop", "Scan", "::If", "ai.onnx::SequenceMap", "com.example::Add"))


def test_an_unlisted_operator_inside_a_branch_is_refused() -> None:
    data = nested().SerializeToString()
    with pytest.raises(Refused, match=r"does not list: ai\.onnx::Neg"):
        check(data, ["ai.onnx::If", "ai.onnx::Abs"])


def custom_domain(model: ModelProto) -> None:
    model.graph.node[0].domain = "com.microsoft"


def outside_weights(model: ModelProto) -> None:
    tensor = model.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def outside_constant(model: ModelProto) -> None:
    node = helper.make_node("Constant", [], ["k"], value=helper.make_tensor("k", TensorProto.FLOAT, [1], [0.0]))
    node.attribute[0].t.external_data.add(key="location", value="weights.bin")
    model.graph.node.append(node)


def outside_sparse(model: ModelProto) -> None:
    model.graph.sparse_initializer.add().values.external_data.add(key="location", value="weights.bin")


def outside_sparse_constant(model: ModelProto) -> None:
    attribute = helper.make_node("Constant", [], ["k"]).attribute.add(name="sparse_value")
    attribute.sparse_tensor.values.external_data.add(key="location", value="weights.bin")
    model.graph.node.add(op_type="Constant").attribute.append(attribute)


def own_function(model: ModelProto) -> None:
    model.functions.add(name="f", domain="mine").node.add(op_type="Abs")


def training(model: ModelProto) -> None:
    model.training_info.add().algorithm.node.add(op_type="Abs")


@pytest.mark.parametrize(("damage", "said"), [
    (custom_domain, "outside ONNX: com.microsoft::"),
    (outside_weights, "outside its file: `/etc/passwd`"),
    (outside_constant, r"outside its file: `weights\.bin`"),
    (outside_sparse, "outside its file"),
    (outside_sparse_constant, "outside its file"),
    (own_function, "functions of its own"),
    (training, "training"),
])
def test_what_reaches_outside_standard_onnx_is_refused(damage: Callable[[ModelProto], None], said: str) -> None:
    model = ModelProto.FromString(TINY.build())
    damage(model)
    data = model.SerializeToString()
    with pytest.raises(Refused, match=said):
        check(data, [*operators(TINY.build()), "com.microsoft::Equal", "Constant", "Abs"])


@pytest.mark.parametrize("data", [b"", b"no model", b"\x00" * 64, b"ORTM" * 8, TINY.build()[:-7]])
def test_what_is_no_model_is_refused(data: bytes) -> None:
    with pytest.raises(Refused, match="no ONNX model"):
        check(data, ["Gemm"])


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        contents(data)
    except Refused as refused:
        assert "ONNX model" in refused.message or "training" in refused.message


@given(st.data())
def test_a_cut_or_flipped_file_is_read_or_refused(data: st.DataObject) -> None:
    whole = bytearray(TINY.build())
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    try:
        contents(bytes(whole))
    except Refused as refused:
        assert refused.remedy


def deep(levels: int) -> bytes:
    """A graph in a node's attribute in a graph, and so on."""
    def member(number: int, content: bytes) -> bytes:
        length, size = b"", len(content)
        while size > 127:
            length, size = length + bytes([size & 127 | 128]), size >> 7
        return bytes([number << 3 | 2]) + length + bytes([size]) + content

    graph = member(1, member(4, b"Abs"))
    for _ in range(levels):
        graph = member(1, member(5, member(6, graph)) + member(4, b"If"))
    return member(7, graph)


def test_graphs_are_followed_only_so_deep() -> None:
    assert contents(deep(50)).nodes == 51
    with pytest.raises(Refused, match="nested deeper"):
        contents(deep(200))


@pytest.mark.parametrize("data", [
    b"\x38\x01",  # a number where the graph belongs
    b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # a length of more than 64 bits
    b"\x39\x00",  # ends inside a fixed number
])
def test_wire_that_protobuf_would_not_write_is_refused(data: bytes) -> None:
    with pytest.raises(Refused, match="no ONNX model"):
        contents(data)
