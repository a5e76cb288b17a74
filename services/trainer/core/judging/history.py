"""How the loss went from epoch to epoch, kept through a resume, for the picture on the card."""

from collections.abc import Mapping

import numpy as np

from services.trainer.core.loop import Array, Loop, Stateful


class History(Stateful):
    """A handler that only looks. `training` and `validation` hold one loss an epoch."""

    def __init__(self) -> None:
        self._training: list[float] = []
        self._validation: list[float] = []

    def epoch_done(self, loop: Loop) -> None:
        self._training.append(loop.training_loss)
        self._validation.append(loop.validation_loss)

    def state(self) -> dict[str, Array]:
        return {"training": np.array(self._training), "validation": np.array(self._validation)}

    def restore(self, state: Mapping[str, Array]) -> None:
        # A checkpoint from before there was a history has none.
        self._training = state.get("training", np.zeros(0)).tolist()
        self._validation = state.get("validation", np.zeros(0)).tolist()

    @property
    def losses(self) -> dict[str, list[float]]:
        """The losses by kind, epoch by epoch."""
        return {"training": self._training, "validation": self._validation}
