"""What watches a run and acts on it: checkpoint, early stop, stop on NaN, time limit, progress."""

import math
from collections.abc import Callable, Mapping

import numpy as np

from services.trainer.core.deadline import Deadline
from services.trainer.core.failure import RunFailed, bad_parameter
from services.trainer.core.loop import Array, Loop, Stateful

# Less than this, relative to the best loss so far, is no improvement.
MIN_IMPROVEMENT = 1e-4
# A loss that is so many times the least one was not going down.
GREW = 10.0


class Checkpoint:
    """Saves after every epoch. Attached last, so that it holds what the other handlers decided."""

    def __init__(self, save: Callable[[bytes], None]) -> None:
        self._save = save

    def epoch_done(self, loop: Loop) -> None:
        self._save(loop.checkpoint())


class EarlyStop(Stateful):
    """Stops after `patience` epochs without improvement on validation rows, and gives the best weights back.

    The weights before the first step count as a candidate too: a fine-tune that only gets worse ends where it began.
    """

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self._best_loss = math.inf
        self._best_epoch = 0
        self._best: dict[str, Array] = {}

    def started(self, loop: Loop) -> None:
        if not self._best:
            self._keep(loop, loop.validate())

    def epoch_done(self, loop: Loop) -> None:
        if loop.validation_loss < self._best_loss - MIN_IMPROVEMENT * abs(self._best_loss):
            self._keep(loop, loop.validation_loss)
        elif loop.epoch - self._best_epoch >= self._patience:
            loop.stop(f"no improvement since epoch {self._best_epoch}")

    def finished(self, loop: Loop) -> None:
        loop.network.load(self._best)

    def state(self) -> dict[str, Array]:
        return {"loss": np.array(self._best_loss), "epoch": np.array(self._best_epoch),
                **{f"best/{name}": array for name, array in self._best.items()}}

    def restore(self, state: Mapping[str, Array]) -> None:
        self._best_loss, self._best_epoch = float(state["loss"]), int(state["epoch"])
        self._best = {name.removeprefix("best/"): array for name, array in state.items() if name.startswith("best/")}

    def _keep(self, loop: Loop, loss: float) -> None:
        self._best_loss, self._best_epoch, self._best = loss, loop.epoch, loop.network.arrays()


class StopOnNaN(Stateful):
    """Ends the run as failed when loss or weights are no numbers any more: nothing learnt after that is worth keeping.

    `exploding_gradients` where they grew until they were none, `nan_loss` where the network answered so at once.
    """

    def __init__(self) -> None:
        self._least = self._last = math.inf

    def batch_done(self, loop: Loop) -> None:
        if not math.isfinite(loop.batch_loss):
            grew = math.isinf(loop.batch_loss) or self._last > GREW * abs(self._least)
            raise _diverged(loop, f"the loss is {loop.batch_loss}", grew and math.isfinite(self._last))
        self._least, self._last = min(self._least, loop.batch_loss), loop.batch_loss

    def epoch_done(self, loop: Loop) -> None:
        # The loss before the last step was a number still.
        if not all(bool(weights.isfinite().all()) for weights in loop.network.parameters()):
            raise _diverged(loop, "weights are no numbers any more", True)

    def state(self) -> dict[str, Array]:
        return {"least": np.array(self._least), "last": np.array(self._last)}

    def restore(self, state: Mapping[str, Array]) -> None:
        # A checkpoint from before these were kept has none.
        self._least, self._last = (float(state.get(name, math.inf)) for name in ("least", "last"))


def _diverged(loop: Loop, what: str, grew: bool) -> RunFailed:
    message = f"training diverged in epoch {loop.epoch}: {what}"
    if grew:
        return bad_parameter(message, "lower learning_rate, or set clip_norm, to 1.0 for example",
                             "exploding_gradients")
    return bad_parameter(message, "look for extreme values in the fields, and in a network of your own for roots and "
                                  "logarithms of what may be negative; or lower learning_rate", "nan_loss")


class TimeLimit:
    """Ends the run as failed at the first epoch's end after its deadline."""

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline

    def epoch_done(self, loop: Loop) -> None:
        self._deadline.check(f"at epoch {loop.epoch}")


class Report:
    """Tells how each epoch ended."""

    def __init__(self, tell: Callable[[int, dict[str, float]], None]) -> None:
        self._tell = tell

    def epoch_done(self, loop: Loop) -> None:
        self._tell(loop.epoch, {"training_loss": loop.training_loss, "validation_loss": loop.validation_loss,
                                "learning_rate": loop.rate})
