"""How finely a step is computed: what is multiplied in 16 bits, and how gradients survive that."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from services.trainer.core.optimizer import Optimizer

Array = npt.NDArray[Any]
Name = Literal["float32", "bfloat16", "float16"]
_KINDS = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class Precision:
    """Mixed precision (Micikevicius et al. 2018) by torch's autocast; weights and the optimiser stay float32.

    float16 reaches down to 6e-8 only, so there the loss is scaled up, and a step whose gradients leave the range is
    left out (torch's GradScaler); bfloat16 has the range of float32 and needs none of that.
    """

    def __init__(self, name: Name, device: str, optimizer: Optimizer) -> None:
        self._kind = _KINDS.get(name)
        self._device = device
        self._following = _Following(optimizer)
        self._scaler = torch.amp.GradScaler(device) if name == "float16" else None

    def computing(self) -> AbstractContextManager[object]:
        """Around whatever becomes a loss."""
        if self._kind is None:
            return nullcontext()
        return torch.autocast(self._device, dtype=self._kind)

    def backward(self, loss: torch.Tensor) -> None:
        """Gradients of the loss, as large as `step` expects them."""
        torch.autograd.backward(loss if self._scaler is None else self._scaler.scale(loss))

    def step(self, rate: float) -> None:
        self._following.rate = rate
        if self._scaler is None:
            self._following.step()
            return
        self._scaler.step(self._following)  # type: ignore[arg-type]  # it asks for no more than this has
        self._scaler.update()
        self._following.forget()

    def arrays(self) -> dict[str, Array]:
        """What a resume must know."""
        return {} if self._scaler is None else {
            name: np.array(value) for name, value in self._scaler.state_dict().items()}

    def load(self, arrays: Mapping[str, Array]) -> None:
        if self._scaler is not None:
            self._scaler.load_state_dict({name: value.item() for name, value in arrays.items()})


class _Following:
    """An optimiser as torch's GradScaler takes one."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self.param_groups = [{"params": optimizer.values}]
        self.rate = 0.0

    def step(self) -> None:
        self._optimizer.step(self.rate)

    def forget(self) -> None:
        """Gradients of a step that was left out."""
        for value in self._optimizer.values:
            value.grad = None
