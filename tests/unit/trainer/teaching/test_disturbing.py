"""Rows changed before they are learnt from: what each change does, that it is learnt, and what it is worth."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from lepton.contracts.modelling.blocks import Parameters
from lepton.contracts.modelling.training_blocks import Adversarial, Augment
from lepton.contracts.pipeline import InvalidPipeline, parse
from services.trainer.core.handlers import Checkpoint
from services.trainer.core.learning import Given, Learned, learn
from services.trainer.core.networks import zoo
from services.trainer.core.networks.network import Network
from services.trainer.core.plan import Plan
from services.trainer.core.preparing.layout import Layout, Span
from services.trainer.core.preparing.rows import Taken, inputs_of
from services.trainer.core.teaching.disturbing import Disturbing, disturbing
from services.trainer.core.weights import unpack
from tests.unit.trainer import samples
from tests.unit.trainer.families import shapes
from tests.unit.trainer.world import SPEC, World, state_of

LAYOUT = Layout((Span("x", "number", 0, 1), Span("flag", "number", 1, 1), Span("series", "sequence", 2, 4),
                 Span("text", "tokens", 6, 2), Span("picture", "vector", 8, 6)))
TAKES = (Taken("x", "float"), Taken("flag", "bool"), Taken("series", "sequence", (2,)), Taken("text", "text"),
         Taken("picture", "vector", (6,)))


def rows(count: int = 400) -> torch.Tensor:
    """Every second step of the series is absent; the picture has two rows of three pixels, 0 to 5."""
    chance = torch.Generator().manual_seed(1)
    found = torch.randn((count, LAYOUT.width), generator=chance)
    found[:, 3] = 0.0
    found[:, 4], found[:, 5] = 1.0, 0.0
    found[:, 6], found[:, 7] = 5.0, 0.0
    found[:, 8:] = torch.arange(6.0)
    return found


def changed(**asked: Any) -> tuple[torch.Tensor, torch.Tensor]:
    some = rows()
    found = disturbing(Augment.model_validate(asked), None, (2, 3), LAYOUT, TAKES, some)
    assert found is not None
    return some, found.augmented(some, torch.Generator().manual_seed(2))


def test_noise_moves_numbers_and_nothing_else() -> None:
    before, after = changed(noise=0.5)
    moved = (before != after).float().mean(dim=0)
    # Columns that never vary have no standard deviation to be moved by.
    assert moved.tolist() == [1, 0, 1, 0] + [0] * 10
    assert float((after - before)[:, 0].std()) == pytest.approx(0.5 * float(before[:, 0].std(correction=0)), rel=0.15)


def test_a_swapped_field_has_a_value_that_another_row_has() -> None:
    before, after = changed(swap=0.3)
    share = float((before[:, 0] != after[:, 0]).float().mean())
    assert 0.2 < share < 0.4
    assert set(after[:, 0].tolist()) <= set(before[:, 0].tolist())


def test_words_are_lost_and_the_end_of_a_text_stays_its_end() -> None:
    _, after = changed(drop_words=0.4)
    assert set(after[:, 6].tolist()) == {5.0, 1.0} and set(after[:, 7].tolist()) == {0.0}
    assert 0.3 < float((after[:, 6] == 1).float().mean()) < 0.5


def test_images_are_moved_over_their_edge_and_mirrored() -> None:
    _, flipped = changed(flip=True)
    assert {tuple(one) for one in flipped[:, 8:].tolist()} == {(0, 1, 2, 3, 4, 5), (2, 1, 0, 5, 4, 3)}
    before, shifted = changed(shift=1)
    seen = {tuple(one) for one in shifted[:, 8:].tolist()}
    assert len(seen) == 9 and (1, 2, 2, 4, 5, 5) in seen and (3, 4, 5, 3, 4, 5) in seen
    assert torch.equal(before[:, :8], shifted[:, :8])


@pytest.mark.parametrize("method", ["fgsm", "pgd"])
def test_an_attack_stays_within_reach_and_makes_the_network_wronger(method: str) -> None:
    learned, plan, inputs, truth = judged(None)
    network, attack = network_of(learned, plan), reach_of(learned, plan, method)
    moved = attack.attacked(network, inputs, truth, torch.Generator().manual_seed(3))
    assert (torch.abs(moved - inputs) <= 0.3 * attack.unit + 1e-5).all()
    assert float(network.loss(moved, truth).detach()) > 1.2 * float(network.loss(inputs, truth).detach())


@pytest.mark.parametrize("method", ["fgsm", "pgd"])
def test_who_learnt_from_attacks_withstands_them(method: str) -> None:
    scores = {}
    for asked in (None, Adversarial.model_validate({"method": method, "epsilon": 0.3, "steps": 3})):
        learned, plan, inputs, truth = judged(asked)
        network = network_of(learned, plan)
        moved = reach_of(learned, plan, "pgd").attacked(network, inputs, truth, torch.Generator().manual_seed(3))
        scores[asked is not None] = float(network.loss(moved, truth).detach())
    assert scores[True] < 0.9 * scores[False]


def test_who_learnt_from_noise_withstands_it() -> None:
    losses = {}
    for asked in (None, Augment(noise=0.7)):
        learned, plan, inputs, truth = judged(None, asked)
        noisy = inputs + torch.randn(inputs.shape, generator=torch.Generator().manual_seed(4))
        losses[asked is not None] = float(network_of(learned, plan).loss(noisy, truth).detach())
    assert losses[True] < 0.9 * losses[False]


@pytest.mark.parametrize("asked", [
    {"augment": Augment(noise=0.2, swap=0.1)}, {"adversarial": Adversarial()},
    {"augment": Augment(noise=0.2), "adversarial": Adversarial(method="pgd", steps=2)}])
def test_a_change_is_learnt_the_same_way_every_time_resumed_or_not(asked: dict[str, Any]) -> None:
    plan, given = samples.wine(family="mlp", parameters=Parameters(hidden=(8,), epochs=4), **asked)
    plain = learn(plan.model_copy(update={"augment": None, "adversarial": None}), Given(given), [])
    kept: list[bytes] = []
    whole = learn(plan, Given(given), [Checkpoint(kept.append)])
    resumed = learn(Plan.from_json(plan.to_json()), Given(given, checkpoint=kept[1]), [])
    assert whole.weights == resumed.weights != plain.weights


def test_networks_that_look_along_their_fields_learn_from_changed_rows_too() -> None:
    plan, given = shapes.digits(120, epochs=2, channels=(4,))
    words, texts = shapes.notes("gru", 80, epochs=2, units=4)
    for one, held, asked in ((plan, given, {"augment": Augment(shift=1), "adversarial": Adversarial()}),
                             (words, texts, {"augment": Augment(drop_words=0.3)})):
        assert learn(one.model_copy(update=asked), Given(held), []).weights != learn(one, Given(held), []).weights


async def test_what_the_pipeline_says_reaches_the_run(world: World) -> None:
    for number, wanted in enumerate(("", ", augment: {noise: 0.5}", ", adversarial: {epsilon: 0.5}")):
        world.pipelines["tumours"] = state_of(SPEC.replace("every_rows: 50", f"every_rows: 50{wanted}"))
        if not number:
            await world.rows(0, 200)
        await world.train(f"c{number}")
    versions = (await world.stores.models.state("tumours")).versions
    assert len({one.manifest.lineage.weights_sha256 for one in versions}) == 3


@pytest.mark.parametrize(("family", "train", "path"), [
    ("mlp", "{augment: {shift: 1}}", "augment.shift"), ("mlp", "{augment: {drop_words: 0.1}}", "augment.drop_words"),
    ("mlp", "{augment: {noise: 0.1}, stream: {}}", "augment"), ("mlp", "{adversarial: {epsilon: 0}}",
                                                                "adversarial.epsilon")])
def test_what_the_fields_have_no_use_for_is_refused(family: str, train: str, path: str) -> None:
    text = SPEC[:SPEC.index("model:")] + f"model: {{family: {family}, train: {train}}}\n"
    with pytest.raises(InvalidPipeline) as raised:
        parse(text)
    assert f"model.train.{path}" in [one.path for one in raised.value.problems]


def judged(adversarial: Adversarial | None, augment: Augment | None = None) -> tuple[Learned, Plan, Any, Any]:
    """A network that learnt breast cancer, and the rows as it takes them."""
    plan, given = samples.breast_cancer(family="mlp", adversarial=adversarial, augment=augment, parameters=Parameters(
        hidden=(16,), epochs=20))
    learned = learn(plan, Given(given), [])
    inputs, truth = prepared_rows(learned, plan, given)
    return learned, plan, inputs, truth


def prepared_rows(learned: Learned, plan: Plan, given: pa.Table) -> tuple[torch.Tensor, torch.Tensor]:
    truth = learned.target.encode(given.column("_label"))
    return torch.from_numpy(learned.preparation.transform(inputs_of(plan.fields, given))), torch.from_numpy(truth)


def network_of(learned: Learned, plan: Plan) -> Network:
    network = zoo.build(plan.family, plan.task, learned.preparation.layout, learned.target.outputs, plan.parameters)
    network.load(unpack(learned.weights)[0])
    return network.eval()


def reach_of(learned: Learned, plan: Plan, method: str) -> Disturbing:
    asked = Adversarial.model_validate({"method": method, "epsilon": 0.3})
    width = learned.preparation.width
    found = disturbing(None, asked, None, learned.preparation.layout, learned.preparation.takes,
                       torch.from_numpy(np.random.default_rng(0).normal(0, 1, (5000, width)).astype(np.float32)))
    assert found is not None
    return found
