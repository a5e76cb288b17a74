"""A network that answers with what is no number, as one's own module can."""

import torch
from torch import nn


class Rootless(nn.Module):
    """The root of what is negative for half of all rows."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, outputs)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.sqrt(self.layer(rows))
