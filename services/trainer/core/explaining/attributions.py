"""What each field did to a row's score, against the average training row: as ONNX operators, and by torch's gradients.

For a linear network it is exact: weight times distance from the average. For layers with ReLU it is integrated
gradients (Sundararajan, Taly and Yan 2017): the gradient averaged over the straight path from the average row to the
row, by Gauss-Legendre quadrature, times the distance; a gradient is the product of the weights whose units are open.
Either way what fields did adds up to the row's score less the average row's (along a path, within the quadrature).

The score is the label for numbers, the log odds of the second of two classes, else the logit of the class answered.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from onnx import TensorProto

from services.trainer.core.emitting.building import Graph
from services.trainer.core.networks.stack import Stack
from services.trainer.core.preparing.layout import Layout
from services.trainer.core.preparing.part import ATTRIBUTIONS

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Attributions:
    """`layers` are (weight [out, in], bias [out]); `base` [width] is the average row; `places` and `shares` the
    quadrature's points in (0, 1) and their weights; `summing` [width, fields] adds columns up, in units of the answer.
    """

    layers: tuple[tuple[Array, Array], ...]
    base: Array
    places: Array
    shares: Array
    summing: Array

    @property
    def outputs(self) -> dict[str, tuple[int, ...]]:
        return {ATTRIBUTIONS: (int(self.summing.shape[1]),)}

    def emit(self, graph: Graph, prepared: str, scores: str) -> list[str]:
        """Operators from prepared rows [rows, width] and their scores to what fields did, float32 [rows, fields]."""
        base = graph.constant("why:base", self.base)
        away = graph.add("Sub", [prepared, base], "why:away")
        slope = self._answered(graph, scores) if len(self.layers) == 1 else self._averaged(graph, away, base, scores)
        effect = graph.add("Mul", [away, slope], "why:effect")
        return [graph.add("MatMul", [effect, graph.constant("why:summing", self.summing)], "why:fields")]

    def answers(self, did: Array) -> dict[str, Array]:
        """What the file is to answer, from `by_torch`'s."""
        return {ATTRIBUTIONS: did}

    def _answered(self, graph: Graph, scores: str) -> str:
        """The last layer's weights of the score that is told: [in], or a row each of the class answered [rows, in]."""
        weight = self.layers[-1][0]
        if len(weight) == 1:
            return graph.constant("why:last", weight[0])
        best = graph.add("ArgMax", [scores], "why:best", axis=1, keepdims=0)
        return graph.add("Gather", [graph.constant("why:last", weight), best], "why:told", axis=0)

    def _averaged(self, graph: Graph, away: str, base: str, scores: str) -> str:
        """The gradient averaged over the path [rows, width]; in between all is [rows, points, units]."""
        middle = graph.constant("why:middle", np.array([1], dtype=np.int64))
        zero = graph.constant("why:zero", np.array(0.0, dtype=np.float32))
        far = graph.add("Unsqueeze", [away, middle], "why:far")
        steps = graph.add("Mul", [far, graph.constant("why:places", self.places[None, :, None])], "why:steps")
        value = graph.add("Add", [steps, base], "why:points")
        opened = []
        for place, (weight, bias) in enumerate(self.layers[:-1]):
            product = graph.add("MatMul", [value, graph.constant(f"why:{place}:in", weight.T)], f"why:{place}:product")
            units = graph.add("Add", [product, graph.constant(f"why:{place}:bias", bias)], f"why:{place}:units")
            opened.append(graph.add("Cast", [graph.add("Greater", [units, zero], f"why:{place}:above")],
                                    f"why:{place}:open", to=TensorProto.FLOAT))
            value = graph.add("Relu", [units], f"why:{place}:relu")
        slope = self._answered(graph, scores)
        if len(self.layers[-1][0]) > 1:
            slope = graph.add("Unsqueeze", [slope, middle], "why:last_slope")
        for place in range(len(self.layers) - 2, -1, -1):
            passed = graph.add("Mul", [opened[place], slope], f"why:{place}:passed")
            back = graph.constant(f"why:{place}:back", self.layers[place][0])
            slope = graph.add("MatMul", [passed, back], f"why:{place}:slope")
        shared = graph.add("Mul", [slope, graph.constant("why:shares", self.shares[None, :, None])], "why:shared")
        return graph.add("ReduceSum", [shared, middle], "why:average", keepdims=0)


def of_network(network: Stack, layout: Layout, fields: tuple[str, ...], base: Array, steps: int,
               unit: float) -> Attributions:
    """`base` [width] is the average prepared training row, `unit` what one of the score is in the answer."""
    layers = tuple((layer.weight.detach().numpy().copy(), layer.bias.detach().numpy().copy())
                   for layer in network.linear_layers())
    points, weights = np.polynomial.legendre.leggauss(steps)
    summing = np.zeros((layout.width, len(fields)), dtype=np.float32)
    for span in layout.spans:
        summing[span.start:span.start + span.width, fields.index(span.field)] = unit
    return Attributions(layers, base.astype(np.float32), ((points + 1) / 2).astype(np.float32),
                        (weights / 2).astype(np.float32), summing)


def by_torch(network: Stack, rows: Array, how: Attributions) -> Array:
    """The same [rows, fields], by torch's own gradients of the network in eval mode."""
    network.eval()
    given, base = torch.from_numpy(np.ascontiguousarray(rows, dtype=np.float32)), torch.from_numpy(how.base)
    with torch.no_grad():
        scores = network(given)
    answered = scores.argmax(dim=1, keepdim=True)
    total = torch.zeros_like(given)
    for place, share in zip(how.places.tolist(), how.shares.tolist(), strict=True):
        point = (base + place * (given - base)).requires_grad_(True)
        gradient, = torch.autograd.grad(network(point).gather(1, answered).sum(), point)
        total += share * gradient
    found: Array = ((given - base) * total).numpy() @ how.summing
    return found
