"""The gradient of a batch, by shares: the same bits whoever computed which share.

    shares = the batch in `shares` parts, in order
    each process: of its shares          chance = f(seed, batch, share); loss, gradient, buffers
    gather                               every share's, in every process
    sum by the order of shares           each weighs as much as it has rows
"""

from dataclasses import dataclass

import torch

from services.trainer.core.networks.network import Network
from services.trainer.core.sharing.crew import Crew
from services.trainer.core.sharing.precision import Name, Precision
from services.trainer.core.teaching.disturbing import Disturbing

# Odd and large: seeds of neighbouring shares, epochs and runs do not meet.
_SHARE_STEP = 7_368_787
_DISTURBED = 500_009


@dataclass(frozen=True, slots=True)
class Means:
    """With what a run learns: how many shares a batch has, how finely is counted, and on what."""

    shares: int = 1
    precision: Name = "float32"
    device: str = "cpu"


class Gradient:
    """Leaves in a network what a batch says of its weights."""

    def __init__(self, network: Network, disturbing: Disturbing | None, precision: Precision, means: Means,
                 crew: Crew) -> None:
        self._network = network
        self._disturbing = disturbing
        self._precision = precision
        self._means = means
        self._crew = crew
        self._chance = torch.Generator()
        self._seed = 0
        self._batch = 0

    def epoch(self, seed: int) -> None:
        """Begin an epoch: all its chance follows from `seed`."""
        self._seed, self._batch = seed, 0
        torch.manual_seed(seed)
        # Changes of rows must not depend on what else took from the epoch's chance.
        self._chance.manual_seed(seed + _DISTURBED)

    def of(self, inputs: torch.Tensor, truth: torch.Tensor) -> float:
        """The loss of the next batch. May raise PeerLost."""
        if self._means.shares == 1 and self._crew.size == 1:
            return float(self._loss(inputs, truth).detach())
        self._batch += 1
        return self._shared(inputs, truth)

    def _loss(self, inputs: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        changed = self._disturbing
        with self._precision.computing():
            loss = (self._network.loss(inputs, truth) if changed is None
                    else changed.loss(self._network, inputs, truth, self._chance))
        self._precision.backward(loss)
        return loss

    def _shared(self, inputs: torch.Tensor, truth: torch.Tensor) -> float:
        shares, size = self._means.shares, self._crew.size
        parts = list(zip(torch.tensor_split(inputs, shares), torch.tensor_split(truth, shares), strict=True))
        told = _Told(self._network)
        mine = told.empty(-(-shares // size))
        for number in range(self._crew.rank, shares, size):
            told.begin()
            if len(parts[number][1]):
                seed = self._seed + (self._batch * shares + number) * _SHARE_STEP
                torch.manual_seed(seed)
                self._chance.manual_seed(seed + _DISTURBED)
                mine[number // size] = told.of(self._loss(*parts[number]))
        everything = self._crew.gather(mine)
        total = told.empty(1)[0]
        for number, (_, labels) in enumerate(parts):
            if len(labels):
                total.add_(everything[number % size, number // size], alpha=len(labels) / len(truth))
        return told.take(total)


class _Told:
    """What one share says, as one vector: gradients, buffers, which of the weights have a gradient, the loss."""

    def __init__(self, network: Network) -> None:
        self._weights = [value for value in network.parameters() if value.requires_grad]
        persistent = set(network.state_dict(keep_vars=True))
        self._buffers = [value for name, value in network.named_buffers() if name in persistent]
        self._before = [value.clone() for value in self._buffers]
        self._size = sum(one.numel() for one in (*self._weights, *self._buffers)) + len(self._weights) + 1

    def empty(self, count: int) -> torch.Tensor:
        place = self._weights[0] if self._weights else torch.zeros(())
        return torch.zeros(count, self._size, device=place.device)

    def begin(self) -> None:
        """Each share begins with what the network kept before the batch."""
        for value, before in zip(self._buffers, self._before, strict=True):
            value.copy_(before)

    def of(self, loss: torch.Tensor) -> torch.Tensor:
        found = [torch.zeros_like(one) if one.grad is None else one.grad for one in self._weights]
        there = torch.tensor([float(one.grad is not None) for one in self._weights], device=loss.device)
        for one in self._weights:
            one.grad = None
        parts = [*found, *self._buffers, there, loss.detach()]
        return torch.cat([one.reshape(-1).float() for one in parts])

    def take(self, total: torch.Tensor) -> float:
        """Give the network what the shares said together; returns their loss."""
        there = total[self._size - 1 - len(self._weights):-1].tolist()
        place = 0
        for value, present in zip(self._weights, there, strict=True):
            if present:
                value.grad = total[place:place + value.numel()].view_as(value).clone()
            place += value.numel()
        for kept in self._buffers:
            said = total[place:place + kept.numel()].view_as(kept)
            kept.copy_(said if kept.is_floating_point() else said.round())
            place += kept.numel()
        return float(total[-1])
