"""One training run, from its first step or from a checkpoint, bit for bit the same either way.

    run(work):                         resume(work, checkpoint):
        epoch = 0                          weights, optimiser, handlers, epoch = checkpoint
        go                                 go

    go:
        started
        while epoch < epochs and not asked to stop:
            epoch += 1
            chance = f(seed, epoch)        order of rows and dropout
            rate = f(epoch)
            epoch_started
            for batch of rows in chance's order:
                loss, gradient, step
                batch_done
            validate
            epoch_done                     here handlers ask to stop, and checkpoint last of all
        finished                           here the best weights come back

A stop is a request, honoured at the next epoch's boundary. Handlers are attached to events by their method names.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt
import torch

from lepton.contracts.modelling.blocks import Parameters
from services.trainer.core import optimizer
from services.trainer.core.networks.network import Network
from services.trainer.core.sharing.crew import ALONE, Crew
from services.trainer.core.sharing.gradient import Gradient, Means
from services.trainer.core.sharing.precision import Precision
from services.trainer.core.teaching import sampling
from services.trainer.core.teaching.disturbing import Disturbing
from services.trainer.core.weights import pack, unpack

Array = npt.NDArray[Any]
EVENTS = ("started", "epoch_started", "batch_done", "epoch_done", "finished")
# Odd and large, so that the seeds of neighbouring runs and epochs do not meet.
_SEED_STEP = 1_000_003


@dataclass(frozen=True, slots=True)
class Rows:
    """Prepared rows and their encoded labels (class numbers, or standardised numbers)."""

    inputs: torch.Tensor
    truth: torch.Tensor

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass(frozen=True, slots=True)
class Work:
    """What is learnt from what. Without `validation` rows the training loss stands in for theirs."""

    network: Network
    parameters: Parameters
    training: Rows
    validation: Rows
    disturbing: Disturbing | None = None
    """How the training rows are changed before each step; None: not at all."""
    means: Means = field(default_factory=Means)


class Loop:
    """The run as its handlers see it: they may read everything, call `stop`, and keep a state of their own."""

    def __init__(self, work: Work, handlers: Sequence[object], crew: Crew = ALONE) -> None:
        self.work = work
        self._crew = crew
        self.epoch = 0
        self.batch_loss = float("nan")
        self.training_loss = float("nan")
        self.validation_loss = float("nan")
        self.stop_reason = ""
        self.rate = work.parameters.learning_rate
        means = work.means
        work.network.to(means.device)
        self._optimizer = optimizer.build(work.network, work.parameters)
        self._precision = Precision(means.precision, means.device, self._optimizer)
        self._gradient = Gradient(work.network, work.disturbing, self._precision, means, crew)
        self._taught = _on(means.device, work.training, changed=work.disturbing is not None)
        self._judging = _on(means.device, work.validation if len(work.validation) else work.training)
        self._handlers = [_checked(handler) for handler in handlers]

    @property
    def network(self) -> Network:
        return self.work.network

    def stop(self, reason: str) -> None:
        """Ask for the end of the run after this epoch."""
        self.stop_reason = self.stop_reason or reason

    def checkpoint(self) -> bytes:
        """Everything `resume` needs."""
        arrays = {f"network/{name}": array for name, array in self.network.arrays().items()}
        arrays |= {f"optimizer/{name}": array for name, array in self._optimizer.arrays().items()}
        arrays |= {f"precision/{name}": array for name, array in self._precision.arrays().items()}
        for handler in self._handlers:
            if isinstance(handler, Stateful):
                arrays |= {f"{type(handler).__name__}/{name}": array for name, array in handler.state().items()}
        return pack(arrays, {"epoch": self.epoch, "stop_reason": self.stop_reason})

    def restore(self, checkpoint: bytes) -> None:
        """Raises Invalid for bytes that are no checkpoint of this work."""
        arrays, about = unpack(checkpoint)
        self.epoch, self.stop_reason = int(about["epoch"]), str(about["stop_reason"])
        self.network.load(_under(arrays, "network"))
        self._optimizer.load(_under(arrays, "optimizer"))
        self._precision.load(_under(arrays, "precision"))
        for handler in self._handlers:
            if isinstance(handler, Stateful):
                handler.restore(_under(arrays, type(handler).__name__))

    def go(self) -> None:
        self._fire("started")
        while self.epoch < self.work.parameters.epochs and not self.stop_reason:
            self.epoch += 1
            self._epoch()
            self._fire("epoch_done")
            # Some handlers watch the first process only.
            if self._crew.agreed(bool(self.stop_reason)):
                self.stop("the first process asked for it")
        self._fire("finished")
        self.network.to("cpu")

    def validate(self) -> float:
        """Loss on the validation rows, in whole precision, as the first process finds it."""
        if self._crew.rank:
            return self._crew.agreed(math.nan)
        self.network.eval()
        with torch.no_grad():
            return self._crew.agreed(float(self.network.loss(self._judging.inputs, self._judging.truth)))

    def _epoch(self) -> None:
        parameters, rows = self.work.parameters, self._taught
        seed = parameters.seed + self.epoch * _SEED_STEP
        self._gradient.epoch(seed)
        order = sampling.order(parameters, self.work.training.truth, torch.Generator().manual_seed(seed))
        self.rate = optimizer.learning_rate(parameters, self.epoch)
        self._fire("epoch_started")
        self.network.train()
        total = 0.0
        for batch in torch.split(order, parameters.batch_size):
            self.batch_loss = self._gradient.of(rows.inputs[batch], rows.truth[batch])
            self._precision.step(self.rate)
            total += self.batch_loss * len(batch)
            self._fire("batch_done")
        self.training_loss = total / len(order)
        self.validation_loss = self.validate()

    def _fire(self, event: str) -> None:
        for handler in self._handlers:
            react: Callable[[Loop], None] | None = getattr(handler, event, None)
            if react is not None:
                react(self)


class Stateful:
    """A handler whose memory must survive a resume derives from this."""

    def state(self) -> dict[str, Array]:
        raise TypeError(f"{type(self).__name__} says it has a state and gives none")

    def restore(self, state: Mapping[str, Array]) -> None:
        raise TypeError(f"{type(self).__name__} says it has a state and takes none")


def run(work: Work, handlers: Sequence[object], crew: Crew = ALONE) -> Loop:
    """Train from the network's present weights; the network holds the result. May raise PeerLost, as `resume`."""
    loop = Loop(work, handlers, crew)
    loop.go()
    return loop


def resume(work: Work, checkpoint: bytes, handlers: Sequence[object], crew: Crew = ALONE) -> Loop:
    """Go on after the epoch the checkpoint was taken at; ends with exactly the weights `run` would have ended with."""
    loop = Loop(work, handlers, crew)
    loop.restore(checkpoint)
    loop.go()
    return loop


def _on(device: str, rows: Rows, changed: bool = False) -> Rows:
    """Rows where they are learnt from; those that are `changed` first go there batch by batch."""
    return Rows(rows.inputs if changed else rows.inputs.to(device), rows.truth.to(device))


def _checked(handler: object) -> object:
    """TypeError for a handler that would silently never be called."""
    names = {name for name in dir(handler) if not name.startswith("_") and callable(getattr(handler, name))}
    unknown = names - set(EVENTS) - {"state", "restore"}
    if not names & set(EVENTS) or unknown:
        raise TypeError(f"{type(handler).__name__} reacts to none of {', '.join(EVENTS)}" if not unknown else
                        f"{type(handler).__name__} has methods that are no events: {', '.join(sorted(unknown))}")
    return handler


def _under(arrays: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    return {name.removeprefix(prefix + "/"): array for name, array in arrays.items() if name.startswith(prefix + "/")}
