"""The engine of a run: events, requests to stop, and its optimiser beside torch's."""

import pytest
import torch

from lepton.contracts.modelling.blocks import Parameters
from lepton.contracts.pipeline_blocks import Task
from services.trainer.core import loop, optimizer
from services.trainer.core.deadline import Deadline
from services.trainer.core.failure import RunFailed
from services.trainer.core.handlers import EarlyStop, Report, TimeLimit
from services.trainer.core.networks import zoo
from services.trainer.core.networks.stack import Stack
from services.trainer.core.preparing.layout import Layout, Span


def mlp(width: int, outputs: int, task: Task, parameters: Parameters) -> Stack:
    network = zoo.build("mlp", task, Layout((Span("rows", "number", 0, width),)), outputs, parameters)
    assert isinstance(network, Stack)
    return network


def work(epochs: int = 3, batch_size: int = 10) -> loop.Work:
    parameters = Parameters(epochs=epochs, batch_size=batch_size, hidden=(4,))
    inputs = torch.arange(50, dtype=torch.float32).reshape(25, 2) / 50
    rows = loop.Rows(inputs, inputs.sum(dim=1))
    return loop.Work(mlp(2, 1, "regression", parameters), parameters, rows,
                     loop.Rows(inputs[:0], inputs[:0, 0]))


class Diary:
    """Writes down every event."""

    def __init__(self) -> None:
        self.entries: list[str] = []

    def started(self, run: loop.Loop) -> None:
        self.entries.append("started")

    def epoch_started(self, run: loop.Loop) -> None:
        self.entries.append(f"epoch {run.epoch}")

    def batch_done(self, run: loop.Loop) -> None:
        self.entries.append("batch")

    def epoch_done(self, run: loop.Loop) -> None:
        self.entries.append("done")

    def finished(self, run: loop.Loop) -> None:
        self.entries.append("finished")


def test_events_come_in_the_order_the_loop_is_drawn() -> None:
    diary = Diary()
    loop.run(work(epochs=2), [diary])
    assert diary.entries == ["started", "epoch 1", "batch", "batch", "batch", "done",
                             "epoch 2", "batch", "batch", "batch", "done", "finished"]


def test_a_stop_is_honoured_after_the_epoch() -> None:
    class Stopper:
        def batch_done(self, run: loop.Loop) -> None:
            run.stop("enough")
            run.stop("a later reason does not count")

    diary = Diary()
    ended = loop.run(work(epochs=9), [Stopper(), diary])
    assert ended.stop_reason == "enough"
    assert diary.entries.count("batch") == 3
    assert diary.entries[-1] == "finished"


def test_a_handler_that_would_never_be_called_is_refused() -> None:
    class Misspelt:
        def epoch_ended(self, run: loop.Loop) -> None:
            raise AssertionError("is never called")

    with pytest.raises(TypeError, match="epoch_ended"):
        loop.run(work(), [Misspelt()])
    with pytest.raises(TypeError, match="reacts to none"):
        loop.run(work(), [object()])


def test_early_stop_gives_the_best_weights_back() -> None:
    losses: list[float] = []
    task = work(epochs=200)
    task = loop.Work(task.network, Parameters(epochs=200, learning_rate=2.0, hidden=(4,)), task.training,
                     task.validation)
    ended = loop.run(task, [EarlyStop(5), Report(lambda _, told: losses.append(told["validation_loss"]))])
    assert ended.stop_reason.startswith("no improvement")
    assert ended.epoch < 200
    assert ended.validate() <= min(losses) * 1.001


def test_a_time_limit_ends_the_run_as_resource() -> None:
    ticks = iter(range(0, 1000, 10))
    with pytest.raises(RunFailed, match="not done after 15 s") as failure:
        loop.run(work(epochs=50), [TimeLimit(Deadline(lambda: float(next(ticks)), 15.0))])
    assert failure.value.failure_class == "resource"


def test_the_rate_falls_and_never_ends_at_nothing() -> None:
    parameters = Parameters(epochs=10, learning_rate=0.5)
    rates = [optimizer.learning_rate(parameters, epoch) for epoch in range(1, 11)]
    assert rates[0] == 0.5
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] >= 0.5 * 0.05
