"""Our optimisers beside torch's, and what schedules, penalties and clipping do."""

from typing import Any

import numpy as np
import pytest
import torch

from lepton.contracts.modelling.blocks import Parameters
from services.trainer.core import optimizer
from services.trainer.core.networks import zoo
from services.trainer.core.networks.stack import Stack
from services.trainer.core.preparing.layout import Layout, Span

L2, RATE = 0.01, 0.05


def network() -> Stack:
    built = zoo.build("mlp", "classification", Layout((Span("rows", "number", 0, 3),)), 2, Parameters(hidden=(5,)))
    assert isinstance(built, Stack)
    return built


def groups(stack: Stack) -> list[dict[str, Any]]:
    return [{"params": [layer.weight for layer in stack.linear_layers()], "weight_decay": L2},
            {"params": [layer.bias for layer in stack.linear_layers()], "weight_decay": 0.0}]


def torchs(name: str, stack: Stack) -> torch.optim.Optimizer:
    if name == "sgd":
        return torch.optim.SGD(groups(stack), lr=RATE, momentum=0.8)
    return (torch.optim.AdamW if name == "adamw" else torch.optim.Adam)(groups(stack), lr=RATE)


def gradients(stack: Stack) -> None:
    rows = torch.randn(20, 3, generator=torch.Generator().manual_seed(1))
    torch.autograd.backward(stack.loss(rows, torch.arange(20) % 2))


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_ours_step_as_torchs_do(name: Any) -> None:
    ours, theirs = network(), network()
    stepping = optimizer.build(ours, Parameters(optimizer=name, l2=L2, momentum=0.8))
    reference = torchs(name, theirs)
    for _ in range(30):
        gradients(ours)
        gradients(theirs)
        stepping.step(RATE)
        reference.step()
        reference.zero_grad()
    for key, value in ours.arrays().items():
        assert np.allclose(value, theirs.arrays()[key], atol=1e-5), key


@pytest.mark.parametrize("longest", [0.01, 1000.0])
def test_a_long_gradient_is_shortened_and_a_short_one_is_not(longest: float) -> None:
    ours, theirs = network(), network()
    gradients(ours)
    gradients(theirs)
    before = ours.arrays()
    optimizer.build(ours, Parameters(optimizer="sgd", momentum=0.0, l2=0.0, clip_norm=longest)).step(1.0)
    length = torch.nn.utils.clip_grad_norm_(theirs.parameters(), longest)
    assert (float(length) > longest) == (longest < 1)
    for key, value in theirs.named_parameters():
        assert value.grad is not None
        assert np.allclose(before[key] - ours.arrays()[key], value.grad.numpy(), atol=1e-6), key


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_l1_brings_weights_that_teach_nothing_to_exactly_zero(name: Any) -> None:
    built = zoo.build("linear_regression", "regression", Layout((Span("rows", "number", 0, 4),)), 1, Parameters())
    rows = torch.randn(200, 4, generator=torch.Generator().manual_seed(3))
    stepping = optimizer.build(built, Parameters(optimizer=name, l1=0.2, l2=0.0))
    for _ in range(200):
        torch.autograd.backward(built.loss(rows, 2 * rows[:, 0] + 1))
        stepping.step(0.05)
    weight, bias = built.arrays()["layers.0.weight"][0], built.arrays()["layers.0.bias"]
    assert weight[0] == pytest.approx(1.9, abs=0.06)  # squared error gives up half the penalty
    assert (weight[1:] == 0).all()
    assert bias[0] == pytest.approx(1.0, abs=0.2)  # what is no weight is not shrunk


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_its_memory_survives_a_checkpoint(name: Any) -> None:
    parameters = Parameters(optimizer=name)
    one, other = network(), network()
    first = optimizer.build(one, parameters)
    for _ in range(3):
        gradients(one)
        first.step(RATE)
    second = optimizer.build(other, parameters)
    other.load(one.arrays())
    second.load(first.arrays())
    for stack, stepping in ((one, first), (other, second)):
        gradients(stack)
        stepping.step(RATE)
    for key, value in one.arrays().items():
        assert (value == other.arrays()[key]).all()


def rates(schedule: Any, warmup: int = 0) -> list[float]:
    parameters = Parameters(epochs=20, learning_rate=0.5, schedule=schedule, warmup_epochs=warmup)
    return [optimizer.learning_rate(parameters, epoch) for epoch in range(1, 21)]


@pytest.mark.parametrize("schedule", ["cosine", "linear", "step", "exponential", "constant"])
def test_the_rate_falls_and_never_ends_at_nothing(schedule: str) -> None:
    found = rates(schedule)
    assert found[0] == 0.5
    assert found == sorted(found, reverse=True)
    assert found[-1] >= 0.5 * 0.01 - 1e-9
    assert (found[-1] < 0.1) == (schedule != "constant")


def test_each_schedule_falls_in_its_own_way() -> None:
    assert rates("linear")[10] == pytest.approx(0.5 * (0.05 + 0.95 / 2))
    assert rates("cosine")[10] == pytest.approx(0.5 * (0.05 + 0.95 / 2))
    assert rates("exponential")[10] == pytest.approx(0.5 * 0.05 ** 0.5)
    assert [rates("step")[place] for place in (9, 10, 14, 15)] == pytest.approx([0.5, 0.05, 0.05, 0.005])


def test_a_warm_up_rises_to_where_the_schedule_begins() -> None:
    found = rates("cosine", warmup=4)
    assert found[:5] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert found[4:] == sorted(found[4:], reverse=True)
    assert max(rates("cosine", warmup=500)) == pytest.approx(0.5)  # warm-up longer than the run: it ends at the top
