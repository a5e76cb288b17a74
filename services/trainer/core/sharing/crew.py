"""Who takes part in a run: one process, or several that tell each other what they found."""

from typing import Protocol

import torch


class PeerLost(Exception):
    """Another process of the run is gone, and with it what this one waited for: the run goes on from its checkpoint."""


class Crew(Protocol):
    """The processes of a run. Every method is called by all of them, in the same order; each may raise PeerLost."""

    @property
    def rank(self) -> int:
        """Number of this process, from 0: the first one alone tells, keeps and exports."""

    @property
    def size(self) -> int:
        """How many there are."""

    def gather(self, mine: torch.Tensor) -> torch.Tensor:
        """[size, *] in the order of ranks; `mine` has the same shape in every process."""

    def agreed(self, number: float) -> float:
        """The first one's number."""

    def read(self, data: bytes | None) -> bytes | None:
        """The first one's bytes; None where it has none."""


class Alone:
    """A run of one process."""

    rank = 0
    size = 1

    def gather(self, mine: torch.Tensor) -> torch.Tensor:
        return mine[None]

    def agreed(self, number: float) -> float:
        return number

    def read(self, data: bytes | None) -> bytes | None:
        return data


ALONE: Crew = Alone()
