"""Batches learnt from in shares: what comes of them, and that a resume changes none of it."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import pyarrow as pa
import pytest
import torch

from lepton.contracts.modelling.blocks import Parameters
from lepton.contracts.modelling.families import FAMILIES
from lepton.contracts.modelling.training_blocks import Adversarial, Augment, Scale
from services.trainer.core import loop
from services.trainer.core.failure import RunFailed
from services.trainer.core.handlers import Checkpoint
from services.trainer.core.learning import Given, learn
from services.trainer.core.networks import zoo
from services.trainer.core.plan import Plan, scale_of
from services.trainer.core.preparing.layout import Layout, Span
from services.trainer.core.sharing.gradient import Means
from services.trainer.core.weights import unpack
from tests.unit.trainer import samples
from tests.unit.trainer.families import shapes

ROWS = 50


def work(means: Means, **parameters: float) -> loop.Work:
    asked = Parameters.model_validate({"epochs": 3, "batch_size": 16, "hidden": [6], **parameters})
    inputs = torch.randn((ROWS, 4), generator=torch.Generator().manual_seed(1))
    rows = loop.Rows(inputs, (inputs.sum(dim=1) > 0).long())
    network = zoo.build("mlp", "classification", Layout((Span("rows", "number", 0, 4),)), 1, asked)
    return loop.Work(network, asked, rows, loop.Rows(inputs[:0], rows.truth[:0]), means=means)


def weights(ended: loop.Loop) -> torch.Tensor:
    return torch.cat([value.detach().reshape(-1) for value in ended.network.parameters()])


@pytest.mark.parametrize("shares", [2, 3, 7, 64])
def test_shares_of_a_batch_say_together_what_the_batch_says(shares: int) -> None:
    whole, shared = (loop.run(work(Means(count)), []) for count in (1, shares))
    torch.testing.assert_close(weights(shared), weights(whole), rtol=1e-4, atol=1e-5)
    assert shared.training_loss == pytest.approx(whole.training_loss, rel=1e-5)


def left_out(shares: int, seed: int = 1) -> list[torch.Tensor]:
    """What dropout lets through for each share of one batch, whose rows are all the same."""
    task = work(Means(shares), dropout=0.5, epochs=1, batch_size=48, seed=seed)
    alike = loop.Rows(torch.ones(48, 4), torch.ones(48, dtype=torch.long))
    task = replace(task, training=alike, validation=loop.Rows(alike.inputs[:0], alike.truth[:0]))
    # Without ReLU's own zeros.
    first = next(one for one in task.network.modules() if isinstance(one, torch.nn.Linear))
    torch.nn.init.ones_(first.weight)
    (dropout,) = (one for one in task.network.modules() if isinstance(one, torch.nn.Dropout))
    seen: list[torch.Tensor] = []
    dropout.register_forward_hook(lambda module, _, said: seen.append(said.detach() != 0) if module.training else None)
    loop.run(task, [])
    return seen


def test_each_share_has_a_chance_of_its_own() -> None:
    masks = left_out(4)
    assert [mask.shape for mask in masks] == [torch.Size([12, 6])] * 4
    assert all(0.2 < float(mask.float().mean()) < 0.8 for mask in masks)
    assert not any(torch.equal(one, other) for one, other in combinations(masks, 2))
    assert all(torch.equal(one, again) for one, again in zip(masks, left_out(4), strict=True))
    assert not any(torch.equal(one, other) for one, other in zip(masks, left_out(4, seed=2), strict=True))


@pytest.mark.parametrize("means", [Means(3), Means(1, "bfloat16"), Means(2, "float16")])
def test_a_resumed_run_ends_with_the_bits_of_one_that_was_not_interrupted(means: Means) -> None:
    kept: list[bytes] = []
    whole = loop.run(work(means, dropout=0.2), [Checkpoint(kept.append)])
    resumed = loop.resume(work(means, dropout=0.2), kept[0], [])
    assert len(kept) == 3
    assert torch.equal(weights(resumed), weights(whole))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_sixteen_bits_learn_nearly_the_same_and_not_the_same(precision: str) -> None:
    fine, coarse = (loop.run(work(Means(1, one), epochs=20), []) for one in ("float32", precision))  # type: ignore[arg-type]  # both are names
    assert not torch.equal(weights(fine), weights(coarse))
    assert coarse.validation_loss == pytest.approx(fine.validation_loss, abs=0.02)
    assert all(value.dtype == torch.float32 for value in coarse.network.parameters())


def test_a_step_that_leaves_the_range_of_sixteen_bits_is_left_out() -> None:
    kept: list[bytes] = []
    task = work(Means(1, "float16"), epochs=1, batch_size=ROWS)
    before = {name: value.copy() for name, value in task.network.arrays().items()}
    with torch.no_grad():
        task.training.inputs.mul_(50.0)
    loop.run(task, [Checkpoint(kept.append)])
    after = task.network.arrays()
    assert all((before[name] == after[name]).all() for name in before)
    # The next scale is smaller, and the checkpoint knows it.
    assert unpack(kept[0])[0]["precision/scale"] < 2.0 ** 16


@pytest.mark.parametrize("made", [shapes.digits(120, "cnn", epochs=2, batch_size=32),
                                  shapes.walks("gru", 120, epochs=2)], ids=["cnn", "gru"])
def test_a_run_in_shares_is_exported_and_the_same_each_time(made: tuple[Plan, pa.Table]) -> None:
    plan = made[0].model_copy(update={"scale": Scale(processes=3)})
    one, two = (learn(plan, Given(made[1]), []) for _ in range(2))
    assert one.weights == two.weights
    assert one.exported.data == two.exported.data


def test_disturbed_rows_are_shared_too() -> None:
    plan, rows = samples.wine(family="mlp", parameters=Parameters(epochs=2), scale=Scale(processes=2),
                              augment=Augment(noise=0.1, swap=0.1), adversarial=Adversarial(method="pgd", steps=2))
    assert learn(plan, Given(rows), []).weights == learn(plan, Given(rows), []).weights


@pytest.mark.parametrize(("train", "family", "device", "why"), [
    (Scale(processes=2), "dqn", "cpu", "follows the one before"),
    (Scale(precision="float16"), "mlp", "cpu", "for GPUs")])
def test_a_command_that_asks_for_what_cannot_be_is_refused(train: Scale, family: str, device: str, why: str) -> None:
    with pytest.raises(RunFailed, match=why):
        scale_of(train, family, False, device)


def test_what_can_be_is_planned() -> None:
    families: Sequence[str] = [one for one in FAMILIES if one not in ("dqn", "q_learning", "torch_module", "auto")]
    assert all(scale_of(Scale(processes=2), one, False, "cpu").processes == 2 for one in families)
    assert scale_of(Scale(precision="float16"), "dqn", False, "cuda").precision == "float16"
