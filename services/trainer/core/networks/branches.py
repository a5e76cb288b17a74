"""Networks of branches: columns folded back into images, series and words, an encoder for each, and one head.

`vector` columns are one value a step; `sequence` columns are L values, then L flags that say which steps there are;
`tokens` columns are the codes of words, 0 where the text has ended. Everything else stays a plain column.
"""

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import nn

from services.trainer.core.emitting.building import Graph
from services.trainer.core.failure import bad_parameter
from services.trainer.core.networks.network import Array, Network, spread
from services.trainer.core.preparing.layout import Layout, Span

SERIES = ("vector", "sequence", "tokens")
# Rows answered at a time outside training: bounds the memory of what lies between the layers.
EVAL_ROWS = 512


class Branch(nn.Module, ABC):
    """Prepared rows to [rows, width]."""

    width: int

    @abstractmethod
    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """What the branch has seen."""

    @abstractmethod
    def emit(self, graph: Graph, prepared: str, name: str) -> str:
        """The same in ONNX; every name begins with `name`."""


class Branched(Network):
    """`hidden` layers with ReLU look at what all branches saw and at the `plain` columns, then come the scores."""

    def __init__(self, branches: Sequence[Branch], plain: Sequence[int], hidden: Sequence[int], outputs: int,
                 dropout: float) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)
        self._seen = sum(branch.width for branch in branches)
        self.register_buffer("plain", torch.tensor(list(plain), dtype=torch.int64), persistent=False)
        widths = (self._seen + len(plain), *hidden, outputs)
        self.head = nn.ModuleList(nn.Linear(before, after) for before, after in itertools.pairwise(widths))
        self._dropout = nn.Dropout(dropout)

    def begin(self, chance: torch.Generator) -> "Branched":
        """First weights, all from `chance`."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
                spread(module, chance)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.1, generator=chance)
            elif isinstance(module, nn.RNNBase):
                bound = module.hidden_size ** -0.5
                for weight in module.parameters():
                    nn.init.uniform_(weight, -bound, bound, generator=chance)
        return self

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        if self.training or len(rows) <= EVAL_ROWS:
            return self._scores(rows)
        return torch.cat([self._scores(some) for some in torch.split(rows, EVAL_ROWS)])

    def emit(self, graph: Graph, prepared: str) -> str:
        seen = [cast(Branch, branch).emit(graph, prepared, f"branch_{place}")
                for place, branch in enumerate(self.branches)]
        columns = cast(torch.Tensor, self.plain).cpu().numpy()
        if len(columns):
            seen.append(graph.add("Gather", [prepared, graph.constant("plain:places", columns)], "plain", axis=1))
        value = seen[0] if len(seen) == 1 else graph.add("Concat", seen, "seen", axis=1)
        for place, layer in enumerate(self._layers()):
            value = graph.linear(value, *weights(layer), f"head_{place}")
            if place < len(self.head) - 1:
                value = graph.add("Relu", [value], f"head_{place}:relu")
        return value

    def scores_layer(self) -> str:
        return f"head.{len(self.head) - 1}"

    def ignore(self, columns: Array) -> None:
        held: Array = np.zeros(self._layers()[0].in_features, dtype=bool)
        held[self._seen:] = columns[cast(torch.Tensor, self.plain).cpu().numpy()]
        self.still(self._layers()[0].weight, held)

    def _scores(self, rows: torch.Tensor) -> torch.Tensor:
        seen = [branch(rows) for branch in self.branches]
        value = self._dropout(torch.cat([*seen, rows.index_select(1, cast(torch.Tensor, self.plain))], dim=1))
        for layer in self.head[:-1]:
            value = self._dropout(torch.relu(layer(value)))
        return cast(torch.Tensor, self.head[-1](value))

    def _layers(self) -> list[nn.Linear]:
        return [cast(nn.Linear, layer) for layer in self.head]


class Steps(nn.Module, ABC):
    """Rows to [rows, length, channels], and which steps there are ([rows, length], 1 or 0; None: all, always)."""

    length: int
    channels: int
    padded: bool

    @abstractmethod
    def forward(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Values, and steps that there are."""

    @abstractmethod
    def emit(self, graph: Graph, prepared: str, name: str) -> tuple[str, str | None]:
        """The same in ONNX; returns the two names."""


class Series(Steps):
    """Vectors and sequences of one length, side by side as channels. A flag of presence is a channel too.

    Beside a vector, which is always whole, every step counts.
    """

    def __init__(self, spans: Sequence[Span]) -> None:
        super().__init__()
        columns: list[np.ndarray] = []
        flags: list[np.ndarray] = []
        self.length = _length(spans[0])
        for span in spans:
            columns.append(np.arange(span.start, span.start + self.length))
            if span.kind == "sequence":
                flags.append(columns[-1] + self.length)
        self.padded = len(flags) == len(columns)
        columns += flags
        self.channels = len(columns)
        self._flags = len(flags)
        self.register_buffer("places", torch.from_numpy(np.stack(columns, axis=1).ravel()), persistent=False)

    def forward(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        places = cast(torch.Tensor, self.places)
        values = rows.index_select(1, places).reshape(len(rows), self.length, self.channels)
        return values, values[:, :, -self._flags:].amax(dim=2) if self.padded else None

    def emit(self, graph: Graph, prepared: str, name: str) -> tuple[str, str | None]:
        places = cast(torch.Tensor, self.places).cpu().numpy()
        taken = graph.add("Gather", [prepared, graph.constant(f"{name}:places", places)], f"{name}:taken", axis=1)
        values = reshaped(graph, taken, (self.length, self.channels), f"{name}:values")
        if not self.padded:
            return values, None
        flags = np.arange(self.channels - self._flags, self.channels)
        flagged = graph.add("Gather", [values, graph.constant(f"{name}:flags", flags)], f"{name}:flagged", axis=2)
        return values, reduced(graph, "ReduceMax", flagged, 2, f"{name}:there")


class Words(Steps):
    """The words of a text as learnt vectors of `channels` numbers."""

    def __init__(self, span: Span, channels: int) -> None:
        super().__init__()
        self.length, self.channels, self.padded = span.width, channels, True
        self._start = span.start
        self.embedding = nn.Embedding(span.size, channels)

    def forward(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        codes = rows[:, self._start:self._start + self.length].long()
        there = (codes > 0).to(rows.dtype)
        return self.embedding(codes) * there[:, :, None], there

    def emit(self, graph: Graph, prepared: str, name: str) -> tuple[str, str | None]:
        columns = np.arange(self._start, self._start + self.length)
        wide = graph.add("Gather", [prepared, graph.constant(f"{name}:places", columns)], f"{name}:wide", axis=1)
        codes = graph.add("Cast", [wide], f"{name}:codes", to=7)
        told = graph.add("Greater", [codes, graph.constant(f"{name}:none", np.array(0))], f"{name}:told")
        there = graph.add("Cast", [told], f"{name}:there", to=1)
        learnt = graph.constant(f"{name}:embedding", self.embedding.weight.detach().cpu().numpy())
        values = graph.add("Gather", [learnt, codes], f"{name}:embedded", axis=0)
        column = graph.add("Unsqueeze", [there, graph.constant(f"{name}:axis", np.array([2]))], f"{name}:there_column")
        return graph.add("Mul", [values, column], f"{name}:values"), there


class Picture(nn.Module):
    """Vectors that are images of one size, row by row with their colours together, as [rows, channels, height, width].

    Several images of a row lie above each other as further channels.
    """

    def __init__(self, spans: Sequence[Span], image: Sequence[int]) -> None:
        super().__init__()
        self.height, self.width, colours = (*image, 1)[:3]
        self.channels = colours * len(spans)
        stacked = [np.arange(span.start, span.start + span.width).reshape(self.height, self.width, colours)
                   for span in spans]
        places = np.concatenate(stacked, axis=2).transpose(2, 0, 1).ravel()
        self.register_buffer("places", torch.from_numpy(np.ascontiguousarray(places)), persistent=False)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        taken = rows.index_select(1, cast(torch.Tensor, self.places))
        return taken.reshape(len(rows), self.channels, self.height, self.width)

    def emit(self, graph: Graph, prepared: str, name: str) -> str:
        places = cast(torch.Tensor, self.places).cpu().numpy()
        taken = graph.add("Gather", [prepared, graph.constant(f"{name}:places", places)], f"{name}:taken", axis=1)
        return reshaped(graph, taken, (self.channels, self.height, self.width), f"{name}:picture")


def steps_of(layout: Layout, family: str, channels: int) -> list[Steps]:
    """One for each length of the vectors and sequences, then one for each text. Raises RunFailed where there are none.

    `channels`: numbers a word becomes.
    """
    series = [span for span in layout.spans if span.kind in ("vector", "sequence")]
    found: list[Steps] = [Series([span for span in series if _length(span) == length])
                          for length in sorted({_length(span) for span in series})]
    found += [Words(span, channels) for span in layout.spans if span.kind == "tokens"]
    if not found:
        raise bad_parameter(f"{family} has nothing to look along: no field is a vector, a sequence or a text",
                            "declare such a field, or use mlp")
    return found


def pictures_of(layout: Layout, image: Sequence[int]) -> tuple[Picture, Layout]:
    """The vectors that hold images of this size, and the layout without them. Raises RunFailed where none does."""
    pixels = math.prod(image)
    spans = [span for span in layout.spans if span.kind == "vector" and span.width == pixels]
    if not spans:
        raise bad_parameter(f"no vector has the {pixels} numbers of an image of {' x '.join(map(str, image))}",
                            "declare a vector with as many dims, or correct `image`")
    rest = tuple(span for span in layout.spans if span not in spans)
    return Picture(spans, image), Layout(rest)


def plain_columns(layout: Layout) -> list[int]:
    """Columns that belong to no image, series or text."""
    return [place for span in layout.spans if span.kind not in SERIES
            for place in range(span.start, span.start + span.width)]


def reshaped(graph: Graph, value: str, shape: Sequence[int], name: str) -> str:
    """`value` [rows, ...] as [rows, *shape]; an empty batch stays one."""
    return graph.add("Reshape", [value, graph.constant(f"{name}:shape", np.array([0, *shape], dtype=np.int64))], name)


def reduced(graph: Graph, operator: str, value: str, axis: int, name: str, keep: bool = False) -> str:
    """ReduceMax, ReduceSum and their like over one axis."""
    return graph.add(operator, [value, graph.constant(f"{name}:axis", np.array([axis], dtype=np.int64))], name,
                     keepdims=int(keep))

def weights(layer: nn.Linear) -> tuple[Array, Array]:
    return layer.weight.detach().cpu().numpy(), layer.bias.detach().cpu().numpy()


def _length(span: Span) -> int:
    return span.width // 2 if span.kind == "sequence" else span.width
