"""What each part of a row did to its score: Shapley values by random orders, as ONNX operators and by torch.

The parts of the row are put in the place of the base row's one after the other, and each is given what the score
gains by it; averaged over orders that is its Shapley value (Castro, Gomez and Tejada 2009; as attributions Strumbelj
and Kononenko 2014, Lundberg and Lee 2017). Orders are drawn once, from the run's seed, and go into the file: each is
followed by its reverse, which evens out chance (Mitchell, Cooper, Frank and Holmes 2022). Whatever the orders, what
all parts did adds up to the row's score less the base row's. No gradient is needed, so any network can be explained.

Parts in which the row does not differ from the base did nothing, and cost nothing: the file passes over them.
"""

import math
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper

from services.trainer.core.emitting.building import Graph, Within
from services.trainer.core.explaining.pieces import Pieces
from services.trainer.core.networks.network import Array, Network
from services.trainer.core.preparing.part import ATTRIBUTIONS, EXPLAIN, PARTS


@dataclass(frozen=True, slots=True)
class Shapley:
    """`ranks` [pairs, 2, parts] is the place of each part in an order and in its reverse; `base` [width] the row
    compared with; `unit` what one of the score is in the answer.
    """

    network: Network
    pieces: Pieces
    base: Array
    ranks: Array
    unit: float

    @property
    def evaluations(self) -> int:
        """How often the network answers to explain one row that differs from the base in all parts."""
        return len(self.ranks) * 2 * (self.pieces.count + 1)

    @property
    def outputs(self) -> dict[str, tuple[int, ...]]:
        told = zip(self.pieces.fields, self.pieces.grid, strict=True)
        return {ATTRIBUTIONS: (len(self.pieces.fields),), **{PARTS + name: grid for name, grid in told if grid}}

    def emit(self, graph: Graph, prepared: str, scores: str) -> list[str]:
        """Only rows that ask are explained, one order and its reverse at a time, so that memory stays bounded."""
        pairs, _, count = self.ranks.shape
        many = graph.scalar("why:pairs", pairs, np.int64)
        numbers = {name: graph.constant(f"why:{name}", np.array(value, dtype=np.int64)) for name, value in (
            ("split", [-1, pairs, count]), ("first", [0]), ("second", [1]), ("parts", [count]))}
        graph.constant("why:base", self.base)
        graph.constant("why:of", self.pieces.of)
        graph.constant("why:ranks", self.ranks)
        graph.add("ArgMax", [scores], "why:best", axis=1, keepdims=0)
        rows = graph.add("Shape", [prepared], "why:rows", start=0, end=1)
        asks = graph.add("NonZero", [graph.add("Expand", [EXPLAIN, rows], "why:asks")], "why:asked")
        places = graph.add("Transpose", [asks], "why:places", perm=[1, 0])
        asked = graph.add("Squeeze", [asks, numbers["first"]], "why:who")
        turns = graph.add("Mul", [graph.add("Size", [asked], "why:many"), many], "why:turns")
        # A loop, since onnxruntime (1.31) fails on a scan of nothing.
        each = graph.add("Loop", [turns, ""], "why:each", body=self._turn(graph, prepared))
        split = graph.add("Reshape", [each, numbers["split"]], "why:by_order")
        mean = graph.add("ReduceMean", [split, numbers["second"]], "why:mean", keepdims=0)
        shape = graph.add("Concat", [rows, numbers["parts"]], "why:shape", axis=0)
        parts = graph.add("ScatterND", [graph.add("ConstantOfShape", [shape], "why:nothing"), places, mean], "why:did")
        return [graph.add("MatMul", [parts, graph.constant("why:summing", self.pieces.summing)], "why:fields"),
                *self._folded(graph, parts)]

    def by_torch(self, rows: Array) -> Array:
        """What each part did [rows, pairs, parts], a mean of an order and its reverse each, in eval mode.

        The mean over pairs is what the file answers.
        """
        self.network.eval()
        with torch.no_grad():
            given = torch.from_numpy(np.ascontiguousarray(rows, dtype=np.float32))
            best = self.network(given).argmax(dim=1).tolist()
            did = [self._row_by_torch(row, told) for row, told in zip(given, best, strict=True)]
        return np.stack(did) if did else np.zeros((0, len(self.ranks), self.pieces.count), dtype=np.float32)

    def _row_by_torch(self, row: torch.Tensor, told: int) -> Array:
        """[pairs, parts] of one row [width] and the class that it is answered with."""
        base, of = torch.from_numpy(self.base), torch.from_numpy(self.pieces.of)
        moved, place = torch.unique(of[row != base]), torch.full((self.pieces.count,), -1)
        place[moved] = torch.arange(len(moved))
        found: Array = np.zeros((len(self.ranks), self.pieces.count), dtype=np.float32)
        for number, pair in enumerate(torch.from_numpy(self.ranks)):
            ranks = pair[:, moved].argsort(dim=1).argsort(dim=1)
            # Columns of parts that do not differ are the base's either way.
            wide = ranks[:, place[of]] if len(moved) else torch.zeros(2, len(of), dtype=torch.int64)
            points = torch.where(wide[:, None, :] < torch.arange(len(moved) + 1)[None, :, None], row, base)
            scores = self.network(points.flatten(0, 1))[:, told].unflatten(0, points.shape[:2])
            gained = scores.diff(dim=1).take_along_dim(ranks, dim=1).mean(dim=0)
            found[number, moved.numpy()] = gained.numpy() * self.unit
        return found

    def fields_of(self, parts: Array) -> Array:
        """What fields did [..., fields], from what parts did [..., parts]."""
        did: Array = parts @ self.pieces.summing
        return did

    def answers(self, parts: Array) -> dict[str, Array]:
        """What the file is to answer, from `by_torch`'s [rows, pairs, parts]."""
        did = parts.mean(axis=1)
        found = {ATTRIBUTIONS: self.fields_of(did)}
        for name, first, grid in zip(self.pieces.fields, self.pieces.first, self.pieces.grid, strict=True):
            if grid:
                found[PARTS + name] = did[:, first:first + math.prod(grid)].reshape(len(did), *grid)
        return found

    def _folded(self, graph: Graph, parts: str) -> list[str]:
        """What the parts of each field did, as they lie."""
        found = []
        for name, first, grid in zip(self.pieces.fields, self.pieces.first, self.pieces.grid, strict=True):
            if not grid:
                continue
            places = graph.constant(f"why:{name}:places", first + np.arange(math.prod(grid)))
            taken = graph.add("Gather", [parts, places], f"why:{name}:taken", axis=1)
            shape = graph.constant(f"why:{name}:shape", np.array([0, *grid], dtype=np.int64))
            found.append(graph.add("Reshape", [taken, shape], f"why:{name}:parts"))
        return found

    def _turn(self, graph: Graph, prepared: str) -> onnx.GraphProto:
        """What each part did to one row in one order and its reverse: turn number [] to [parts]."""
        turn = Within(graph, "turn:", ["number", "going"])
        numbers = {name: turn.constant(f"why:{name}", np.array(value)) for name, value in (
            ("axis_0", [0]), ("axis_1", [1]), ("axis_2", [2]), ("of_two", [2, -1]), ("wide", [-1, len(self.base)]),
            ("end", [2**31]), ("last", [-1]), ("behind", np.zeros((2, 1), np.float32)))}
        none, one, unit = (turn.scalar(f"why:{name}", value, np.float32)
                           for name, value in (("float_0", 0), ("float_1", 1), ("unit", self.unit)))
        who = turn.add("Gather", ["why:who", turn.add("Div", ["number", "why:pairs"], "asked")], "who", axis=0)
        rank = turn.add("Gather", ["why:ranks", turn.add("Mod", ["number", "why:pairs"], "pair")], "rank", axis=0)
        row = turn.add("Gather", [prepared, who], "row", axis=0)
        place, active, active_count = self._places(turn, row, rank, numbers)
        after = turn.add("Add", [active_count, one], "after")
        taken = turn.add("Range", [none, after, one], "counts")
        for axis in ("axis_0", "axis_2"):
            taken = turn.add("Unsqueeze", [taken, numbers[axis]], f"counts_{axis}")
        here = turn.add("Less", [turn.add("Unsqueeze", [place, numbers["axis_1"]], "place_once"), taken], "here")
        points = turn.add("Where", [turn.add("Gather", [here, "why:of"], "columns", axis=2), row, "why:base"], "mixed")
        points = turn.add("Reshape", [points, numbers["wide"]], "points")
        scores = self.network.emit(turn, points)
        best = turn.add("Gather", ["why:best", who], "best", axis=0)
        told = turn.add("Reshape", [turn.add("Gather", [scores, best], "told", axis=1), numbers["of_two"]], "path")
        gained = turn.add("Sub", [
            turn.add("Slice", [told, numbers["axis_1"], numbers["end"], numbers["axis_1"]], "later"),
            turn.add("Slice", [told, numbers["axis_0"], numbers["last"], numbers["axis_1"]], "sooner")], "gained")
        # A part that does nothing may stand behind the last that does something.
        padded = turn.add("Concat", [gained, numbers["behind"]], "gains", axis=1)
        whole = turn.add("Cast", [place], "place_whole", to=TensorProto.INT64)
        did = turn.add("Mul", [turn.add("GatherElements", [padded, whole], "theirs", axis=1), active], "did")
        mean = turn.add("ReduceMean", [did, numbers["axis_0"]], "mean", keepdims=0)
        turn.add("Mul", [mean, unit], "effect")
        turn.add("Identity", ["going"], "on")
        return turn.closed("turn", [_value("number", TensorProto.INT64), _value("going", TensorProto.BOOL)],
                           [_value("on", TensorProto.BOOL), _value("effect", TensorProto.FLOAT, self.pieces.count)])

    def _places(self, turn: Graph, row: str, rank: str, numbers: dict[str, str]) -> tuple[str, str, str]:
        """The places [2, parts] of the parts among those that differ from the base, which do [parts], how many."""
        apart = turn.add("Not", [turn.add("Equal", [row, "why:base"], "same")], "apart")
        none = turn.constant("why:none", np.zeros(self.pieces.count, dtype=np.float32))
        active = turn.add("ScatterElements", [none, "why:of", turn.add(
            "Cast", [apart], "apart_number", to=TensorProto.FLOAT)], "active", axis=0, reduction="max")
        later = turn.add("Unsqueeze", [rank, numbers["axis_2"]], "rank_later")
        sooner = turn.add("Unsqueeze", [rank, numbers["axis_1"]], "rank_sooner")
        before = turn.add("Cast", [turn.add("Less", [sooner, later], "less")], "before", to=TensorProto.FLOAT)
        place = turn.add("MatMul", [before, active], "place")
        return place, active, turn.add("ReduceSum", [active], "active_count", keepdims=0)


def shapley_of(network: Network, pieces: Pieces, base: Array, orders: int, unit: float, seed: int) -> Shapley:
    """`orders` are drawn from `seed`, rounded up to pairs."""
    chance = np.random.default_rng(seed)
    drawn = np.stack([chance.permutation(pieces.count) for _ in range(-(-orders // 2))])
    return Shapley(network, pieces, base, np.stack([drawn, pieces.count - 1 - drawn], axis=1), unit)


def _value(name: str, kind: int, *shape: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)
