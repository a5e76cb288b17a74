"""Networks that cannot be learnt, as one's own module can be: no numbers, no memory."""

import torch
from torch import nn


class Rootless(nn.Module):
    """The root of what is negative for half of all rows."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, outputs)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.sqrt(self.layer(rows))


class Insatiable(nn.Module):
    """Asks for more memory than a process can have anywhere."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, outputs)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.layer(rows)
        return scores + torch.empty(2**50, dtype=torch.uint8)[0]
