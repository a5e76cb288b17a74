"""Which operators of a network multiply by a constant matrix, and how that matrix lies."""

from dataclasses import dataclass

from onnx import NodeProto

from services.trainer.core.shrinking.opened import Array, Opened, attribute


@dataclass(frozen=True, slots=True)
class Weighted:
    """`matrix` [in, out] for Gemm and MatMul; [out, in, ...] for Conv, as it is in the file."""

    node: NodeProto
    matrix: Array
    bias: Array | None

    @property
    def operator(self) -> str:
        return str(self.node.op_type)

    @property
    def given(self) -> str:
        """Name of the tensor that is multiplied."""
        return str(self.node.input[0])

    @property
    def units(self) -> int:
        return int(self.matrix.shape[0 if self.operator == "Conv" else 1])


def weighted(opened: Opened, operators: tuple[str, ...] = ("Gemm", "MatMul", "Conv")) -> list[Weighted]:
    """Those of the network in order; one of an unusual form (a group of convolutions, a scaled product) is left out."""
    found = []
    for node in opened.network():
        if node.op_type not in operators or len(node.input) < 2:
            continue
        matrix = opened.weight(node.input[1])
        bias = opened.weight(node.input[2]) if len(node.input) > 2 else None
        if matrix is None or not _plain(node, matrix) or (len(node.input) > 2 and (bias is None or bias.ndim != 1)):
            continue
        turned = node.op_type == "Gemm" and attribute(node, "transB", 0) == 1
        found.append(Weighted(node, matrix.T if turned else matrix, bias))
    return found


def _plain(node: NodeProto, matrix: Array) -> bool:
    if node.op_type == "Conv":
        return bool(attribute(node, "group", 1) == 1)
    if node.op_type == "Gemm" and (attribute(node, "transA", 0), attribute(node, "alpha", 1.0),
                                   attribute(node, "beta", 1.0)) != (0, 1.0, 1.0):
        return False
    return matrix.ndim == 2
