"""On a machine with a GPU: a run learns there, in each precision, gives the same bytes twice, and serves from a CPU."""

import os

import pytest

# Read by the libraries when the first of them is used, as the worker sets it.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import torch

from lepton.contracts.modelling.blocks import Parameters
from lepton.contracts.modelling.training_blocks import Adversarial, Augment, Scale
from services.trainer.core.learning import Given, Learned, learn
from tests.unit.trainer import samples
from tests.unit.trainer.families import shapes

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU here, or no driver for it"),
]


def learnt(precision: str, processes: int = 1, device: str = "cuda") -> Learned:
    scale = Scale.model_validate({"precision": precision, "processes": processes})
    plan, rows = samples.wine(family="mlp", parameters=Parameters(epochs=15, hidden=(16,), dropout=0.1), scale=scale,
                              device=device)
    return learn(plan, Given(rows), [])


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_cuda_learns_as_well_as_the_cpu_and_the_same_twice(precision: str) -> None:
    one, two, cpu = learnt(precision), learnt(precision), learnt("float32", device="cpu")
    assert one.weights == two.weights
    assert one.metrics["accuracy"] >= cpu.metrics["accuracy"] - 0.1


def test_cuda_computes_in_sixteen_bits_where_asked() -> None:
    assert learnt("bfloat16").weights != learnt("float32").weights


def test_cuda_learns_in_shares() -> None:
    assert learnt("float16", 3).weights == learnt("float16", 3).weights


@pytest.mark.parametrize("family", ["cnn", "gru", "lstm", "transformer"])
def test_cuda_learns_along_series_images_and_texts(family: str) -> None:
    plan, rows = shapes.digits(300, "cnn", epochs=3) if family == "cnn" else (
        shapes.notes(family, epochs=3) if family == "transformer" else shapes.walks(family, epochs=3))
    found = learn(plan.model_copy(update={"device": "cuda", "scale": Scale(precision="bfloat16")}), Given(rows), [])
    assert found.metrics["accuracy"] > 0.5


def test_cuda_learns_from_disturbed_rows() -> None:
    plan, rows = samples.wine(family="mlp", parameters=Parameters(epochs=5), device="cuda",
                              augment=Augment(noise=0.1, swap=0.1), adversarial=Adversarial(method="pgd", steps=2))
    assert learn(plan, Given(rows), []).weights == learn(plan, Given(rows), []).weights
