"""Processes of a run that meet through torch.distributed: gloo among CPUs, NCCL among GPUs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist

from services.trainer.core.sharing.crew import PeerLost

# Longest wait for a process that lives and says nothing; one that dies is noticed at once.
PATIENCE = timedelta(minutes=30)

Found = TypeVar("Found")


class Together:
    """A `Crew`. Nothing here adds up what came from others: bytes are moved, and all add in the same order."""

    def __init__(self, device: torch.device) -> None:
        self.rank: int = dist.get_rank()
        self.size: int = dist.get_world_size()
        self._device = device

    def gather(self, mine: torch.Tensor) -> torch.Tensor:
        mine = mine.contiguous()
        places = [torch.empty_like(mine) for _ in range(self.size)]
        _heard(lambda: dist.all_gather(places, mine))
        return torch.stack(places)

    def agreed(self, number: float) -> float:
        told = torch.tensor([number], dtype=torch.float64, device=self._device)
        _heard(lambda: dist.broadcast(told, 0))
        return float(told)

    def read(self, data: bytes | None) -> bytes | None:
        size = int(self.agreed(-1 if data is None else len(data)))
        if size < 0:
            return None
        told = torch.zeros(size, dtype=torch.uint8, device=self._device)
        if self.rank == 0 and data:
            told.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        if size:
            _heard(lambda: dist.broadcast(told, 0))
        return told.cpu().numpy().tobytes()


@contextmanager
def together(meeting: str, rank: int, size: int, device: torch.device) -> Iterator[Together]:
    """The crew that meets at `meeting` (`file://...` on one machine, else `env://`, as torch elastic says where).

    Raises PeerLost when the others do not come.
    """
    backend = "nccl" if device.type == "cuda" else "gloo"
    _heard(lambda: dist.init_process_group(backend, init_method=meeting, rank=rank, world_size=size, timeout=PATIENCE))
    yield Together(device)
    # Not after a failure: the others must not miss this process before it has said why.
    dist.destroy_process_group()


def _heard(say: Callable[[], Found]) -> Found:
    """Raises PeerLost where the others cannot be heard: the libraries below say all of it with a RuntimeError."""
    try:
        return say()
    except RuntimeError as error:
        raise PeerLost(str(error)) from error
