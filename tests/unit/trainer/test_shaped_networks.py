"""Networks over images, series and texts: each file answers as torch, and what is not there has no say."""

import math
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from lepton.contracts.modelling.blocks import Parameters
from services.trainer.core.emitting.building import Graph
from services.trainer.core.failure import RunFailed
from services.trainer.core.networks import zoo
from services.trainer.core.networks.network import Network
from services.trainer.core.preparing.layout import Layout, Span

PLAIN = Span("age", "number", 0, 1)
VECTOR, OTHER = Span("left", "vector", 1, 12, (12,)), Span("right", "vector", 13, 12, (12,))
SEQUENCE = Span("steps", "sequence", 1, 10, (2, 5))
TOKENS = Span("note", "tokens", 1, 6, (6,), 20)
SHAPES = {"vectors": Layout((PLAIN, VECTOR, OTHER)), "sequence": Layout((PLAIN, SEQUENCE)),
          "text": Layout((PLAIN, TOKENS)), "text alone": Layout((Span("note", "tokens", 0, 6, (6,), 20),)),
          "vector and text": Layout((Span("left", "vector", 0, 4, (4,)),
                                     Span("note", "tokens", 4, 6, (6,), 20)))}
FAMILIES = ("cnn", "rnn", "lstm", "gru", "transformer")


def prepared(layout: Layout, count: int, seed: int = 3) -> np.ndarray:
    """Rows as a preparation leaves them: standard values, presence in front, words from the left."""
    chance = np.random.default_rng(seed)
    rows = chance.normal(size=(count, layout.width)).astype(np.float32)
    for span in layout.spans:
        there = np.arange(max(1, span.width // 2 if span.kind == "sequence" else span.width))
        kept = there[None, :] < chance.integers(0, len(there) + 1, count)[:, None]
        if span.kind == "sequence":
            half = span.start + span.width // 2
            rows[:, half:span.start + span.width] = kept
            rows[:, span.start:half] *= kept
        if span.kind == "tokens":
            rows[:, span.start:span.start + span.width] = chance.integers(1, span.size, kept.shape) * kept
    return rows


def network_of(family: Any, layout: Layout, outputs: int = 3, **more: Any) -> Network:
    parameters = Parameters(**{"units": 8, "channels": (4, 6), "depth": 1, **more})
    return zoo.build(family, "classification", layout, outputs, parameters)


def exported(network: Network, width: int) -> onnxruntime.InferenceSession:
    graph = Graph()
    scores = network.eval().emit(graph, "prepared")
    model = helper.make_model(helper.make_graph(
        graph.nodes, "alone", [helper.make_tensor_value_info("prepared", TensorProto.FLOAT, ["rows", width])],
        [helper.make_tensor_value_info(scores, TensorProto.FLOAT, ["rows", None])], graph.constants),
        ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
    onnx.checker.check_model(model, full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def scores_of(network: Network, rows: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        found: np.ndarray = network.eval()(torch.from_numpy(rows)).numpy()
    return found


def shaken(network: Network) -> Network:
    """Running figures of normalisations away from where they begin, and biases that are not 0."""
    chance = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                value += 0.3 * torch.rand(value.shape, generator=chance) * (1 if "var" in name else 0.5)
    return network


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("shape", sorted(SHAPES))
@pytest.mark.parametrize("family", FAMILIES)
def test_the_file_answers_as_torch(family: str, shape: str, depth: int) -> None:
    layout = SHAPES[shape]
    network = shaken(network_of(family, layout, depth=depth, hidden=(7,) if depth == 2 else None))
    running = exported(network, layout.width)
    for count in (1, 33, 0):
        rows = prepared(layout, count)
        (found,) = running.run(None, {"prepared": rows})
        assert found.shape == (count, 3)
        np.testing.assert_allclose(found, scores_of(network, rows), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("image", [(4, 6), (2, 4, 3)])
def test_images_are_seen_row_by_row_with_their_colours_together(image: tuple[int, ...]) -> None:
    pixels = math.prod(image)
    layout = Layout((PLAIN, Span("photo", "vector", 1, pixels, (pixels,)),
                     Span("note", "tokens", 1 + pixels, 6, (6,), 20)))
    network = shaken(network_of("cnn", layout, image=image))
    rows = prepared(layout, 5)
    (found,) = exported(network, layout.width).run(None, {"prepared": rows})
    np.testing.assert_allclose(found, scores_of(network, rows), atol=2e-5, rtol=1e-4)
    parts: Any = network
    taken = parts.branches[0].picture(torch.from_numpy(rows)).numpy()
    height, width, colours = (*image, 1)[:3]
    assert np.array_equal(taken, rows[:, 1:1 + pixels].reshape(5, height, width, colours).transpose(0, 3, 1, 2))


@pytest.mark.parametrize("family", ["rnn", "lstm", "gru", "transformer"])
@pytest.mark.parametrize("shape", ["sequence", "text"])
def test_steps_that_are_not_there_change_nothing(family: str, shape: str) -> None:
    layout = SHAPES[shape]
    network = shaken(network_of(family, layout))
    rows = prepared(layout, 40)
    if shape == "sequence":
        rows = rows[rows[:, 6] == 1]  # where there is no step at all, one of zeros stands in
        longer = rows.copy()
        longer[:, 1:6] += 50 * (rows[:, 6:11] == 0)
        assert not np.array_equal(longer, rows)
        np.testing.assert_allclose(scores_of(network, longer), scores_of(network, rows), atol=1e-5)
    else:
        parts: Any = network
        before = scores_of(network, rows)
        with torch.no_grad():
            parts.branches[0].steps.embedding.weight[0] += 50
        np.testing.assert_allclose(scores_of(network, rows), before, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_seed_begins_with_the_same_weights(family: str) -> None:
    torch.manual_seed(1)
    first = network_of(family, SHAPES["vector and text"]).arrays()
    torch.manual_seed(2)
    again, other = (network_of(family, SHAPES["vector and text"], seed=seed).arrays() for seed in (7, 8))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert any(not np.array_equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_weight_learns_and_rows_beyond_a_batch_are_answered_alike(family: str) -> None:
    layout = SHAPES["sequence"]
    network = network_of(family, layout)
    rows = torch.from_numpy(prepared(layout, 600))
    torch.autograd.backward(network.train().loss(rows, torch.arange(600) % 3))
    assert [name for name, one in network.named_parameters()
            if one.grad is None or not torch.isfinite(one.grad).all()] == []
    together, alone = scores_of(network, rows.numpy()), scores_of(network, rows.numpy()[590:])
    np.testing.assert_allclose(together[590:], alone, atol=1e-5)


def test_a_column_that_never_varied_has_no_say_beside_a_series() -> None:
    layout = SHAPES["vectors"]
    network = network_of("gru", layout)
    network.ignore(np.arange(layout.width) == 0)
    rows = prepared(layout, 8)
    torch.autograd.backward(network.train().loss(torch.from_numpy(rows), torch.arange(8) % 3))
    parts: Any = network
    assert float(parts.head[0].weight.grad[:, -1].abs().max()) == 0.0
    moved = rows.copy()
    moved[:, 0] = 9.0
    np.testing.assert_array_equal(scores_of(network, rows), scores_of(network, moved))


@pytest.mark.parametrize(("family", "layout", "more", "said"), [
    ("lstm", Layout((PLAIN,)), {}, "nothing to look along"),
    ("cnn", SHAPES["vectors"], {"image": (5, 5)}, "no vector has the 25 numbers"),
    ("transformer", SHAPES["text"], {"units": 10, "heads": 4}, "10 units cannot be shared by 4 heads")])
def test_what_cannot_be_built_is_a_failure_with_a_remedy(family: str, layout: Layout, more: dict[str, Any],
                                                         said: str) -> None:
    with pytest.raises(RunFailed, match=said) as failed:
        network_of(family, layout, **more)
    assert failed.value.remedy
