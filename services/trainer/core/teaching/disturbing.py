"""How a batch is changed before a network learns from it: by chance (augmentation), or where it is weakest (attack)."""

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from lepton.contracts.modelling.training_blocks import Adversarial, Augment
from services.trainer.core.preparing.layout import Layout, Span
from services.trainer.core.preparing.rows import Taken
from services.trainer.core.preparing.words import FIRST, UNKNOWN

# Steps of an attack are together so many times as long as the way to the edge (Madry et al. 2018).
_REACH = 2.5


class Learning(Protocol):
    """A network as far as it is attacked."""

    def loss(self, rows: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        """Mean over rows."""


@dataclass(frozen=True, slots=True)
class Disturbing:
    """What is asked for, and which columns it is about.

    `unit` [width]: a standard deviation of the training rows where a column is a number that may move, else 0.
    `field` [width]: which field a column is of. `flags` [width]: the column that says whether this one is there.
    """

    augment: Augment | None
    adversarial: Adversarial | None
    unit: torch.Tensor
    field: torch.Tensor
    flags: torch.Tensor
    tokens: torch.Tensor
    images: tuple[Span, ...] = ()
    shape: tuple[int, int, int] = (1, 1, 1)

    def loss(self, network: Learning, rows: torch.Tensor, truth: torch.Tensor, chance: torch.Generator) -> torch.Tensor:
        """What a step follows down: the mean over rows, of attacked ones a share."""
        rows = self.augmented(rows, chance).to(truth.device)
        plain = network.loss(rows, truth)
        if self.adversarial is None:
            return plain
        share = self.adversarial.share
        return (1 - share) * plain + share * network.loss(self.attacked(network, rows, truth, chance), truth)

    def augmented(self, rows: torch.Tensor, chance: torch.Generator) -> torch.Tensor:
        """The rows, changed anew at every call."""
        asked = self.augment
        if asked is None:
            return rows
        if asked.swap:
            rows = self._swapped(rows, asked.swap, chance)
        if asked.shift or asked.flip:
            for span in self.images:
                rows = self._moved(rows, span, asked, chance)
        if asked.noise:
            rows = rows + asked.noise * self._reach(rows) * torch.randn(rows.shape, generator=chance)
        if asked.drop_words:
            lost = (torch.rand(rows.shape, generator=chance) < asked.drop_words) & self.tokens & (rows >= FIRST)
            rows = rows.masked_fill(lost, UNKNOWN)
        return rows

    def attacked(self, network: Learning, rows: torch.Tensor, truth: torch.Tensor,
                 chance: torch.Generator) -> torch.Tensor:
        """Each row moved by at most `epsilon` standard deviations a number to where the network is wronger.

        `fgsm`: one step along the gradient's sign (Goodfellow et al. 2015); `pgd`: several from a random place, kept
        within reach (Madry et al. 2018).
        """
        asked = self.adversarial
        assert asked is not None
        reach = asked.epsilon * self._reach(rows)
        steps, length, moved = 1, 1.0, torch.zeros_like(rows)
        if asked.method == "pgd":
            steps, length = asked.steps, _REACH / asked.steps
            moved = reach * (2 * torch.rand(rows.shape, generator=chance).to(rows.device) - 1)
        for _ in range(steps):
            place = (rows + moved).requires_grad_(True)
            slope, = torch.autograd.grad(network.loss(place, truth), place)
            moved = torch.clamp(moved + length * reach * slope.sign(), -reach, reach)
        return rows + moved

    def _reach(self, rows: torch.Tensor) -> torch.Tensor:
        """How far a standard deviation is, [rows, width]; a step of a series that is not there stays at nothing."""
        unit, flags = self.unit.to(rows.device), self.flags.to(rows.device)
        return unit * torch.where(flags >= 0, rows[:, flags.clamp(min=0)], torch.ones((), device=rows.device))

    def _swapped(self, rows: torch.Tensor, share: float, chance: torch.Generator) -> torch.Tensor:
        """Of each row some fields as in another row of the batch (Bahri et al. 2022)."""
        other = rows[torch.randperm(len(rows), generator=chance)]
        fields = torch.rand((len(rows), int(self.field.max()) + 1), generator=chance) < share
        return torch.where(fields[:, self.field], other, rows)

    def _moved(self, rows: torch.Tensor, span: Span, asked: Augment, chance: torch.Generator) -> torch.Tensor:
        """Images shifted, what comes in being what was at the edge, and mirrored."""
        height, width, colours = self.shape
        count = (len(rows), 1)
        down, right = (torch.randint(-asked.shift, asked.shift + 1, count, generator=chance) for _ in range(2))
        mirrored = (torch.rand(count, generator=chance) < 0.5) & asked.flip
        place = torch.arange(span.width)[None, :]
        y, x, colour = place // (width * colours), place // colours % width, place % colours
        x = (torch.where(mirrored, width - 1 - x, x) + right).clamp(0, width - 1)
        source = span.start + ((y + down).clamp(0, height - 1) * width + x) * colours + colour
        whole = torch.arange(rows.shape[1]).expand(len(rows), -1).clone()
        whole[:, span.start:span.start + span.width] = source
        return rows.gather(1, whole)


def disturbing(augment: Augment | None, adversarial: Adversarial | None, image: tuple[int, ...] | None, layout: Layout,
               takes: tuple[Taken, ...], training: torch.Tensor) -> Disturbing | None:
    """None where nothing is asked. `training` [rows, width] are the prepared rows that are learnt from."""
    if augment is None and adversarial is None:
        return None
    types = {one.name: one.type for one in takes}
    numbers, tokens = np.zeros(layout.width, dtype=bool), np.zeros(layout.width, dtype=bool)
    field, flags = np.zeros(layout.width, dtype=np.int64), np.full(layout.width, -1, dtype=np.int64)
    for span in layout.spans:
        columns: Any = np.arange(span.start, span.start + span.width)
        field[columns] = list(types).index(span.field)
        tokens[columns] = span.kind == "tokens"
        if span.kind == "sequence":
            half = span.width // 2
            numbers[columns[:half]], flags[columns[:half]] = True, columns[half:]
        elif span.kind in ("number", "vector", "directions"):
            numbers[columns] = types[span.field] != "bool"
    unit = training.std(dim=0, correction=0) * torch.from_numpy(numbers)
    shape = (*image, 1)[:3] if image is not None else (1, 1, 1)
    pictures = tuple(span for span in layout.spans if span.kind == "vector" and image is not None
                     and span.width == math.prod(image))
    return Disturbing(augment, adversarial, unit, torch.from_numpy(field), torch.from_numpy(flags),
                      torch.from_numpy(tokens), pictures, (shape[0], shape[1], shape[2]))
