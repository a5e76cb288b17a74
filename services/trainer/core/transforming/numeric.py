"""Numbers in other forms than standardised: on other scales, in bins of equally many rows, along principal directions.

All begin where `Numbers` ends, with values that are filled, clipped and standardised, in 64 bits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from onnx import TensorProto

from services.trainer.core.preparing.layout import Span
from services.trainer.core.preparing.numbers import Numbers
from services.trainer.core.preparing.part import Emission
from services.trainer.core.preparing.rows import Array, Inputs


@dataclass(frozen=True, slots=True)
class Scaled:
    """The column of a number: (standardised - center) / scale."""

    place: int
    center: float = 0.0
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Binned:
    """Bins of a number: a value is in the first whose upper edge it does not exceed, else in the last."""

    place: int
    edges: tuple[float, ...]

    @property
    def width(self) -> int:
        return len(self.edges) + 1


@dataclass(frozen=True, slots=True)
class Directions:
    """(standardised - mean) times `weights` [numbers][components]."""

    places: tuple[int, ...]
    mean: tuple[float, ...]
    weights: tuple[tuple[float, ...], ...]

    @property
    def width(self) -> int:
        return len(self.weights[0])


@dataclass(frozen=True, slots=True)
class Derived:
    """Columns made of `numbers`: scaled ones, then bins, then principal components."""

    numbers: Numbers
    scaled: tuple[Scaled, ...] = ()
    binned: tuple[Binned, ...] = ()
    directions: tuple[Directions, ...] = ()
    kind = "derived"

    @property
    def spans(self) -> tuple[Span, ...]:
        names = self.numbers.names
        kinds = [(names[one.place], "number", 1) for one in self.scaled]
        kinds += [(names[one.place], "bins", one.width) for one in self.binned]
        kinds += [(names[one.places[0]], "directions", one.width) for one in self.directions]
        starts = np.cumsum([0, *(width for _, _, width in kinds)]).tolist()
        return tuple(Span(field, kind, start, width)
                     for (field, kind, width), start in zip(kinds, starts, strict=False))

    def transform(self, inputs: Inputs) -> Array:
        return self.derive(self.numbers.transform(inputs))

    def derive(self, standard: Array) -> Array:
        """From standardised numbers [rows, numbers]."""
        blocks = []
        if self.scaled:
            places, center, scale = self._scales()
            blocks.append((standard[:, places] - center) / scale)
        if self.binned:
            places, low, high = self._edges()
            value = standard[:, places]
            blocks.append(((value > low) & ~(value > high)).astype(np.float64))
        blocks += [(standard[:, list(one.places)] - np.array(one.mean)) @ np.array(one.weights)
                   for one in self.directions]
        return np.concatenate(blocks, axis=1)

    def emit(self, emission: Emission) -> str:
        graph, prefix = emission.graph, emission.prefix
        standard, blocks = self.numbers.emit_wide(emission), []
        if self.scaled:
            places, center, scale = self._scales()
            value = self._taken(emission, standard, "scaled", places)
            value = graph.add("Sub", [value, graph.constant(f"{prefix}:scaled:center", center)],
                              f"{prefix}:scaled:centered")
            blocks.append(graph.add("Div", [value, graph.constant(f"{prefix}:scaled:scale", scale)],
                                    f"{prefix}:scaled:told"))
        if self.binned:
            places, low, high = self._edges()
            value = self._taken(emission, standard, "binned", places)
            above = graph.add("Greater", [value, graph.constant(f"{prefix}:binned:low", low)], f"{prefix}:binned:above")
            beyond = graph.add("Greater", [value, graph.constant(f"{prefix}:binned:high", high)],
                               f"{prefix}:binned:beyond")
            within = graph.add("Not", [beyond], f"{prefix}:binned:within")
            hot = graph.add("And", [above, within], f"{prefix}:binned:hot")
            blocks.append(graph.add("Cast", [hot], f"{prefix}:binned:told", to=TensorProto.DOUBLE))
        for number, one in enumerate(self.directions):
            name = f"directions_{number}"
            value = self._taken(emission, standard, name, np.array(one.places))
            value = graph.add("Sub", [value, graph.constant(f"{prefix}:{name}:mean", np.array([one.mean]))],
                              f"{prefix}:{name}:centered")
            blocks.append(graph.add("MatMul", [value, graph.constant(f"{prefix}:{name}:weights",
                                                                     np.array(one.weights))], f"{prefix}:{name}:told"))
        whole = blocks[0] if len(blocks) == 1 else graph.add("Concat", blocks, f"{prefix}:whole", axis=1)
        return graph.add("Cast", [whole], prefix, to=TensorProto.FLOAT)

    def to_data(self) -> dict[str, Any]:
        return {"numbers": self.numbers.to_data(), **{
            what: [asdict(one) for one in getattr(self, what)] for what in ("scaled", "binned", "directions")}}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> "Derived":
        return cls(Numbers.from_data(data["numbers"]), tuple(Scaled(**one) for one in data["scaled"]),
                   tuple(Binned(one["place"], tuple(one["edges"])) for one in data["binned"]),
                   tuple(Directions(tuple(one["places"]), tuple(one["mean"]),
                                    tuple(tuple(row) for row in one["weights"])) for one in data["directions"]))

    def _scales(self) -> tuple[Array, Array, Array]:
        return (np.array([one.place for one in self.scaled]), np.array([[one.center for one in self.scaled]]),
                np.array([[one.scale for one in self.scaled]]))

    def _edges(self) -> tuple[Array, Array, Array]:
        """Of each column its number's place, and between which edges it is: (low, high]."""
        return (np.concatenate([np.full(one.width, one.place) for one in self.binned]),
                np.array([[edge for one in self.binned for edge in (-np.inf, *one.edges)]]),
                np.array([[edge for one in self.binned for edge in (*one.edges, np.inf)]]))

    def _taken(self, emission: Emission, standard: str, what: str, places: Array) -> str:
        at = emission.graph.constant(f"{emission.prefix}:{what}:places", places.astype(np.int64))
        return emission.graph.add("Gather", [standard, at], f"{emission.prefix}:{what}:taken", axis=1)


def scaled(place: int, method: str, standard: Array, numbers: Numbers) -> Scaled:
    """From the standardised training values [rows]; a scale that sees no spread is 1."""
    if method == "standard" or not len(standard):
        return Scaled(place)
    if method == "none":
        # The number as it is: what standardising took away is given back.
        one = numbers.numbers[place]
        return Scaled(place, -one.center / one.scale, 1.0 / one.scale)
    low, middle, high = (np.quantile(standard, [0.25, 0.5, 0.75]) if method == "robust"
                         else (standard.min(), standard.min(), standard.max()))
    return Scaled(place, float(middle), float(high - low) or 1.0)


def binned(place: int, bins: int, standard: Array) -> Binned:
    """Edges lie in the middle between two training values, so that rounding moves none across. Equal values share a
    bin: there may then be fewer."""
    values = np.unique(standard)
    edges = set()
    for wanted in np.quantile(standard, np.arange(1, bins) / bins, method="lower") if len(standard) else ():
        above = int(np.searchsorted(values, wanted, side="right"))
        if above < len(values):
            edges.add(float((values[above - 1] + values[above]) / 2))
    return Binned(place, tuple(sorted(edges)))


def directions(places: Sequence[int], components: int, standard: Array) -> Directions:
    """Principal components by singular value decomposition (Pearson 1901; Hotelling 1933), as many as there can be.

    Each points to where its largest weight is positive.
    """
    some = standard[:, list(places)]
    mean = some.mean(axis=0) if len(some) else np.zeros(len(places))
    # The covariance is as large as the fields are many, however many rows there are.
    _, vectors = np.linalg.eigh((some - mean).T @ (some - mean))
    weights = vectors[:, ::-1][:, :components]
    weights = weights * np.where(np.take_along_axis(
        weights, np.abs(weights).argmax(axis=0)[None, :], axis=0) < 0, -1.0, 1.0)
    return Directions(tuple(places), tuple(mean.tolist()), tuple(tuple(row) for row in weights.tolist()))
