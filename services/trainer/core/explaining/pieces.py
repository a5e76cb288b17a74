"""Into which parts a row is taken to say what each did: patches of an image, steps of a series, words of a text."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.trainer.core.networks.branches import SERIES
from services.trainer.core.networks.network import Array
from services.trainer.core.preparing.layout import Layout, Span

ABSENT = frozenset({"sequence", "tokens"})
"""Kinds of columns whose parts can be absent; other columns are those of the average training row then."""


@dataclass(frozen=True, slots=True)
class Pieces:
    """`of` [width] is the part each prepared column belongs to; `first` and `grid` of each field are its first part
    and how its parts lie: () for one, [segments] along steps or words, [down, across] over an image.
    """

    of: Array
    fields: tuple[str, ...]
    first: tuple[int, ...]
    grid: tuple[tuple[int, ...], ...]

    @property
    def count(self) -> int:
        return sum(math.prod(grid) for grid in self.grid)

    @property
    def summing(self) -> Array:
        """[parts, fields], 1 where a part is a field's."""
        found = np.zeros((self.count, len(self.fields)), dtype=np.float32)
        for place, (first, grid) in enumerate(zip(self.first, self.grid, strict=True)):
            found[first:first + math.prod(grid), place] = 1.0
        return found


def pieces_of(layout: Layout, fields: tuple[str, ...], image: Sequence[int], most: int) -> Pieces:
    """At most `most` parts a field; `image` is the size of what are images, () where there are none."""
    of: Array = np.zeros(layout.width, dtype=np.int64)
    firsts, grids, first = [], [], 0
    for field in fields:
        spans = [span for span in layout.spans if span.field == field]
        grid: tuple[int, ...] = ()
        if len(spans) == 1 and spans[0].kind in SERIES:
            grid, parts = _parts(spans[0], image, most)
        else:
            parts = np.zeros(sum(span.width for span in spans), dtype=np.int64)
        columns = [place for span in spans for place in range(span.start, span.start + span.width)]
        of[columns] = first + parts
        firsts.append(first)
        grids.append(grid)
        first += math.prod(grid)
    return Pieces(of, fields, tuple(firsts), tuple(grids))


def base_of(layout: Layout, rows: Array) -> Array:
    """The row [width] that parts are compared with: the average of `rows`, but sequences and texts are empty."""
    base: Array = rows.mean(axis=0).astype(np.float32)
    for span in layout.spans:
        if span.kind in ABSENT:
            base[span.start:span.start + span.width] = 0.0
    return base


def _parts(span: Span, image: Sequence[int], most: int) -> tuple[tuple[int, ...], Array]:
    """How many parts lie along each side, and the part of each column."""
    if span.kind == "vector" and image and span.width == math.prod(image):
        height, width, colours = (*image, 1)[:3]
        side = next(side for side in itertools.count(1) if -(-height // side) * -(-width // side) <= most)
        grid = -(-height // side), -(-width // side)
        patches = np.arange(height)[:, None] // side * grid[1] + np.arange(width) // side
        return grid, np.repeat(patches.ravel(), colours)
    length = span.shape[-1]
    each = -(-length // most)
    # Behind the values of a sequence stand the flags that say which there are.
    return (-(-length // each),), np.tile(np.arange(length) // each, span.width // length)
