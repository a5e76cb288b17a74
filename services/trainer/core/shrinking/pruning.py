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
class Link:
    """A layer and the only one that reads it; each unit of the first is `block` inputs of the second."""

    first: Weighted
    second: Weighted
    block: int


def links(opened: Opened) -> list[Link]:
    """Where units can be left out, in order."""
    layers = {one.node.output[0]: one for one in weighted(opened, ("Gemm", "Conv"))}
    of_node = {id(one.node): one for one in layers.values()}
    found = []
    for name, first in layers.items():
        while len(readers := opened.readers(name)) == 1 and not opened.answers(name):
            second = of_node.get(id(readers[0]))
            if second is not None:
                block = _block(first, second)
                if second.given == name and block and _own(opened, first) and _own(opened, second):
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
        gone += _without(opened, link, share, activations[link.second.given])
    return gone


def _without(opened: Opened, link: Link, share: float, values: Array) -> int:
    first, second = link.first, link.second
    # By unit: its inputs of the second layer, places of the kernel, outputs.
    incoming = (second.matrix if second.operator == "Gemm" else np.moveaxis(second.matrix, 0, -1)).reshape(
        first.units, link.block, -1, second.units)
    flat = np.moveaxis(values, 1, -1).reshape(-1, values.shape[1]).astype(np.float64)
    means, spreads = (part.reshape(first.units, link.block) for part in (flat.mean(axis=0), flat.std(axis=0)))
    said = (spreads * np.linalg.norm(incoming.reshape(first.units, link.block, -1), axis=2)).sum(axis=1)
    keep = np.sort(np.argsort(-said, kind="stable")[:max(1, first.units - int(share * first.units))])
    lost = np.setdiff1d(np.arange(first.units), keep)
    if not len(lost) or second.bias is None:
        return 0
    # All places of a kernel count, as everywhere but at the rim of an image.
    constant = np.einsum("ub,ubpo->o", means[lost], incoming[lost])
    _put(opened, second, (second.bias + constant).astype(np.float32),
         incoming=(keep[:, None] * link.block + np.arange(link.block)).ravel())
    _put(opened, first, None if first.bias is None else first.bias[keep], outgoing=keep)
    return len(lost)


def _put(opened: Opened, layer: Weighted, bias: Array | None, *, incoming: Array | None = None,
         outgoing: Array | None = None) -> None:
    """Store a layer's bias, and only these of its inputs or of its outputs."""
    turned = layer.operator == "Conv" or attribute(layer.node, "transB", 0) == 1
    stored = opened.weight(layer.node.input[1])
    kept = incoming if incoming is not None else outgoing
    if stored is not None and kept is not None:
        opened.put(layer.node.input[1], np.take(stored, kept, axis=int(turned == (incoming is not None))))
    if bias is not None:
        opened.put(layer.node.input[2], bias)


def _own(opened: Opened, layer: Weighted) -> bool:
    """Whether no other operator uses the same weights."""
    return all(len(opened.readers(name)) == 1 for name in layer.node.input[1:])


def _block(first: Weighted, second: Weighted) -> int:
    """Inputs of `second` for each unit of `first`; 0 where they do not fit, or a mean would have no bias to go to."""
    inputs = second.matrix.shape[1 if second.operator == "Conv" else 0]
    shared = second.bias is None or inputs % first.units or (second.operator == "Conv" and inputs != first.units)
    return 0 if shared else inputs // first.units
