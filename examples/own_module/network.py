"""A wide and deep network (Cheng et al. 2016): a linear layer beside a deep one, whose answers are added.

With LEPTON_TRAINER_MODULES=examples.own_module.network the trainer may import it.
"""

from typing import cast

import torch
from torch import nn


class WideAndDeep(nn.Module):
    """`width` prepared columns in, `outputs` scores out."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.wide = nn.Linear(width, outputs)
        self.deep = nn.Sequential(nn.Linear(width, 16), nn.BatchNorm1d(16), nn.GELU(), nn.Dropout(0.1),
                                  nn.Linear(16, outputs))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, self.wide(rows) + self.deep(rows))
