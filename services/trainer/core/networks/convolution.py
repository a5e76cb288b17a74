"""Convolutions over images, series and texts, each followed by normalisation over the batch, ReLU and halving."""

import itertools
from typing import cast

import torch
from torch import nn

from lepton.contracts.modelling.blocks import Parameters
from services.trainer.core.emitting.building import Graph
from services.trainer.core.networks.branches import (
    SERIES,
    Branch,
    Branched,
    Picture,
    Steps,
    pictures_of,
    plain_columns,
    reduced,
    steps_of,
)
from services.trainer.core.preparing.layout import Layout


class Convolutions(nn.Module):
    """[rows, channels, *size] to [rows, channels[-1], *size halved once a layer, while it can be]."""

    def __init__(self, inputs: int, channels: tuple[int, ...], size: tuple[int, ...], kernel: int,
                 dropout: float) -> None:
        super().__init__()
        flat = len(size) == 1
        convolution, normal = (nn.Conv1d, nn.BatchNorm1d) if flat else (nn.Conv2d, nn.BatchNorm2d)
        widths = [inputs, *channels]
        # The normalisation has a bias of its own.
        self.layers = nn.ModuleList(convolution(before, after, kernel, padding=kernel // 2, bias=False)
                                    for before, after in itertools.pairwise(widths))
        self.normals = nn.ModuleList(normal(width) for width in channels)
        self._pool = nn.functional.max_pool1d if flat else nn.functional.max_pool2d
        self._dropout = nn.Dropout(dropout)
        self._halved: list[bool] = []
        for _ in channels:
            self._halved.append(min(size) > 1)
            size = tuple(length // 2 for length in size) if self._halved[-1] else size
        self.size = size

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        for layer, normal, halved in zip(self.layers, self.normals, self._halved, strict=True):
            value = torch.relu(normal(layer(value)))
            value = self._dropout(self._pool(value, 2) if halved else value)
        return value

    def emit(self, graph: Graph, value: str, name: str) -> str:
        for place, halved in enumerate(self._halved):
            layer = cast(nn.Conv2d, self.layers[place])
            normal = cast(nn.BatchNorm2d, self.normals[place])
            here = f"{name}:convolution_{place}"
            weight = graph.constant(f"{here}:weight", layer.weight.detach().cpu().numpy())
            edges = [side // 2 for side in layer.kernel_size]
            value = graph.add("Conv", [value, weight], here, pads=edges * 2)
            figures = [cast(torch.Tensor, one).detach().cpu().numpy()
                       for one in (normal.weight, normal.bias, normal.running_mean, normal.running_var)]
            names = [graph.constant(f"{here}:{what}", one)
                     for what, one in zip(("scale", "shift", "mean", "variance"), figures, strict=True)]
            value = graph.add("BatchNormalization", [value, *names], f"{here}:normal", epsilon=normal.eps)
            value = graph.add("Relu", [value], f"{here}:relu")
            if halved:
                two = [2] * (layer.weight.dim() - 2)
                value = graph.add("MaxPool", [value], f"{here}:halved", kernel_shape=two, strides=two)
        return value


class Seen(Branch):
    """An image through convolutions, flat: where something is matters as much as what it is."""

    def __init__(self, picture: Picture, parameters: Parameters) -> None:
        super().__init__()
        self.picture = picture
        self.convolutions = Convolutions(picture.channels, parameters.channels, (picture.height, picture.width),
                                         parameters.kernel, parameters.dropout)
        height, width = self.convolutions.size
        self.width = parameters.channels[-1] * height * width

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, self.convolutions(self.picture(rows)).flatten(1))

    def emit(self, graph: Graph, prepared: str, name: str) -> str:
        seen = self.convolutions.emit(graph, self.picture.emit(graph, prepared, name), name)
        return graph.add("Flatten", [seen], f"{name}:flat", axis=1)


class Heard(Branch):
    """A series or a text through convolutions along its steps.

    A vector stays flat, since its places mean something; of what may begin and end anywhere the largest counts.
    """

    def __init__(self, steps: Steps, parameters: Parameters) -> None:
        super().__init__()
        self.steps = steps
        self.convolutions = Convolutions(steps.channels, parameters.channels, (steps.length,), parameters.kernel,
                                         parameters.dropout)
        self.width = parameters.channels[-1] * (1 if steps.padded else self.convolutions.size[0])

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        values, _ = self.steps(rows)
        heard = self.convolutions(values.transpose(1, 2))
        return cast(torch.Tensor, heard.amax(dim=2) if self.steps.padded else heard.flatten(1))

    def emit(self, graph: Graph, prepared: str, name: str) -> str:
        values, _ = self.steps.emit(graph, prepared, name)
        heard = self.convolutions.emit(graph, graph.add("Transpose", [values], f"{name}:by_channel", perm=[0, 2, 1]),
                                       name)
        if self.steps.padded:
            return reduced(graph, "ReduceMax", heard, 2, f"{name}:largest")
        return graph.add("Flatten", [heard], f"{name}:flat", axis=1)


def cnn(layout: Layout, outputs: int, parameters: Parameters, chance: torch.Generator) -> Branched:
    """With `image` every vector of that many numbers is an image, and other fields may stand beside it."""
    branches: list[Branch] = []
    rest = layout
    if parameters.image:
        picture, rest = pictures_of(layout, parameters.image)
        branches.append(Seen(picture, parameters))
    if not branches or any(span.kind in SERIES for span in rest.spans):
        branches += [Heard(steps, parameters) for steps in steps_of(rest, "cnn", parameters.units)]
    return Branched(branches, plain_columns(rest), parameters.hidden or (), outputs, parameters.dropout).begin(chance)
