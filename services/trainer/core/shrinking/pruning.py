"""Which hidden units and channels of a network say least, and the file without them.

What a unit adds to the next layer varies by the spread of its values times the size of its outgoing weights; what does
not vary goes into the next layer's bias. So the units that are left out are those whose mean says nearly all they have
to say on the training rows (after Ye et al., 2018). Real units go, not single weights: the file is smaller and faster.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from services.trainer.core.shrinking.opened import Array, Opened, attribute
from services.trainer.core.shrinking.weighted import Weighted, weighted

# What leaves each unit where it was, and zero zero.
_PASSING = {"Relu", "LeakyRelu", "Tanh", "Sigmoid", "Elu", "Selu", "Gelu", "Identity", "MaxPool", "AveragePool",
            "GlobalAveragePool", "Flatten"}


@dataclass(frozen=True, slots=True)
class Layer:
    """A product with constant weights, what it is called with its bias added, and the bias, if any."""

    product: Weighted
    output: str
    bias_name: str
    bias: Array | None

    @property
    def own(self) -> tuple[str, ...]:
        """Names of its constants."""
        return (self.product.node.input[1], *([self.bias_name] if self.bias_name else []))


@dataclass(frozen=True, slots=True)
class Link:
    """A layer and the only one that reads it; each unit of the first is `block` inputs of the second."""

    first: Layer
    second: Layer
    block: int


def links(opened: Opened) -> list[Link]:
    """Where units can be left out, in order."""
    layers = [_layer(opened, one) for one in weighted(opened)]
    of_node = {id(one.product.node): one for one in layers}
    found = []
    for first in layers:
        name = first.output
        while len(readers := opened.readers(name)) == 1 and not opened.answers(name):
            second = of_node.get(id(readers[0]))
            if second is not None:
                block = _block(first, second)
                if second.product.given == name and block and _own(opened, first) and _own(opened, second):
                    found.append(Link(first, second, block))
                break
            if readers[0].op_type not in _PASSING or (
                    readers[0].op_type == "Flatten" and attribute(readers[0], "axis", 1) != 1):
                break
            name = readers[0].output[0]
    return found


def prune(opened: Opened, share: float, activations: Mapping[str, Array]) -> int:
    """Leave out `share` of the units of each hidden layer, at least one staying; returns how many went.

    `activations` are the values, on training rows, of what each layer is given.
    """
    gone = 0
    for place in range(len(links(opened))):
        link = links(opened)[place]
        # What an earlier link took away is not among the measured inputs of this one: they are its outputs, all there.
        gone += _without(opened, link, share, activations[link.second.product.given])
    return gone


def _layer(opened: Opened, one: Weighted) -> Layer:
    """With the bias that an operator of its own adds to a product of more than two dimensions."""
    output, readers = str(one.node.output[0]), opened.readers(one.node.output[0])
    if one.operator == "MatMul" and len(readers) == 1 and readers[0].op_type == "Add":
        bias = opened.weight(readers[0].input[1])
        if readers[0].input[0] == output and bias is not None and bias.shape == (one.units,):
            return Layer(one, str(readers[0].output[0]), str(readers[0].input[1]), bias)
    return Layer(one, output, str(one.node.input[2]) if one.bias is not None else "", one.bias)


def _without(opened: Opened, link: Link, share: float, values: Array) -> int:
    first, second, units = link.first, link.second, link.first.product.units
    conv = second.product.operator == "Conv"
    # By unit: its inputs of the second layer, places of the kernel, outputs.
    incoming = (np.moveaxis(second.product.matrix, 0, -1) if conv else second.product.matrix).reshape(
        units, link.block, -1, second.product.units)
    values = np.moveaxis(values, 1, -1) if conv else values
    flat = values.reshape(-1, values.shape[-1]).astype(np.float64)
    means, spreads = (part.reshape(units, link.block) for part in (flat.mean(axis=0), flat.std(axis=0)))
    said = (spreads * np.linalg.norm(incoming.reshape(units, link.block, -1), axis=2)).sum(axis=1)
    keep = np.sort(np.argsort(-said, kind="stable")[:max(1, units - int(share * units))])
    lost = np.setdiff1d(np.arange(units), keep)
    if not len(lost) or second.bias is None:
        return 0
    # All places of a kernel count, as everywhere but at the rim of an image.
    constant = np.einsum("ub,ubpo->o", means[lost], incoming[lost])
    _put(opened, second, (second.bias + constant).astype(np.float32),
         incoming=(keep[:, None] * link.block + np.arange(link.block)).ravel())
    _put(opened, first, None if first.bias is None else first.bias[keep], outgoing=keep)
    return len(lost)


def _put(opened: Opened, layer: Layer, bias: Array | None, *, incoming: Array | None = None,
         outgoing: Array | None = None) -> None:
    """Store a layer's bias, and only these of its inputs or of its outputs."""
    product = layer.product
    turned = product.operator == "Conv" or attribute(product.node, "transB", 0) == 1
    stored = opened.weight(product.node.input[1])
    kept = incoming if incoming is not None else outgoing
    if stored is not None and kept is not None:
        opened.put(product.node.input[1], np.take(stored, kept, axis=int(turned == (incoming is not None))))
    if bias is not None:
        opened.put(layer.bias_name, bias)


def _own(opened: Opened, layer: Layer) -> bool:
    """Whether no other operator uses the same weights."""
    return all(len(opened.readers(name)) == 1 for name in layer.own)


def _block(first: Layer, second: Layer) -> int:
    """Inputs of `second` for each unit of `first`; 0 where they do not fit, or a mean would have no bias to go to."""
    conv, units = second.product.operator == "Conv", first.product.units
    inputs = second.product.matrix.shape[1 if conv else 0]
    shared = second.bias is None or inputs % units or (conv and inputs != units)
    return 0 if shared else inputs // units
