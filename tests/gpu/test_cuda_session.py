"""On a machine with a GPU: a session really runs there, answers as on the CPU, and stays when several ask at once."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from lepton.clock import SystemClock
from lepton.errors import Unavailable
from services.predictor.core.batching.limits import Limits
from services.predictor.core.engine import Engine, Setup
from services.predictor.core.session import CPU, CUDA, TENSORRT, Options, Session, settle_device
from services.predictor.core.signature import Array, of_manifest
from tests.harness.onnx_models import Linear

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(settle_device(Options("auto")).device != "cuda",
                       reason="a session of onnxruntime does not get CUDA here: no GPU, driver or CUDA libraries"),
]

NUMERIC = Linear({f"field_{number}": "float" for number in range(6)}, hidden=256)
TEXT = Linear({"amount": "float", "country": "category"}, classes=("no", "yes"))


def session(linear: Linear, device: str) -> Session:
    data = linear.build()
    return Session(data, of_manifest(linear.manifest(data)), Options("cuda" if device == "cuda" else "cpu"))


def numbers(rows: int, seed: int = 7) -> dict[str, Array]:
    values = np.random.default_rng(seed).normal(size=(6, rows))
    arrays: dict[str, Array] = {f"field_{number}": values[number] for number in range(6)}
    return arrays | {"_missing": np.zeros((rows, 6), dtype=np.bool_)}


def test_cuda_is_what_the_session_itself_says() -> None:
    assert session(NUMERIC, "cuda").provider == CUDA
    assert session(NUMERIC, "cpu").provider == CPU


@pytest.mark.parametrize("rows", [1, 7, 64, 1000])
def test_cuda_through_bound_inputs_answers_as_the_cpu(rows: int) -> None:
    on_gpu, on_cpu = session(NUMERIC, "cuda").run(numbers(rows)), session(NUMERIC, "cpu").run(numbers(rows))
    np.testing.assert_allclose(on_gpu["prediction"], on_cpu["prediction"], rtol=1e-4, atol=1e-4)


def test_cuda_with_text_inputs_answers_as_the_cpu() -> None:
    arrays: dict[str, Array] = {"amount": np.array([-3.0, 3.0]), "country": np.array(["us", "de"], dtype=object),
                                "_missing": np.zeros((2, 2), dtype=np.bool_)}
    on_gpu, on_cpu = session(TEXT, "cuda").run(arrays), session(TEXT, "cpu").run(arrays)
    assert on_gpu["label"].tolist() == on_cpu["label"].tolist()
    np.testing.assert_allclose(on_gpu["probabilities"], on_cpu["probabilities"], rtol=1e-4)


def test_cuda_answers_several_threads_at_once() -> None:
    shared, alone = session(NUMERIC, "cuda"), session(NUMERIC, "cpu")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda seed: shared.run(numbers(64, seed))["prediction"], range(32)))
    for seed, answers in enumerate(found):
        np.testing.assert_allclose(answers, alone.run(numbers(64, seed))["prediction"], rtol=1e-4, atol=1e-4)


def gets_tensorrt() -> bool:
    try:
        return settle_device(Options("auto", tensorrt=True)).tensorrt
    except Unavailable:
        return False


@pytest.mark.skipif(not gets_tensorrt(), reason="a session of onnxruntime does not get TensorRT here")
def test_tensorrt_is_what_the_session_says_and_answers_as_the_cpu() -> None:
    data = NUMERIC.build()
    session_there = Session(data, of_manifest(NUMERIC.manifest(data)), Options("cuda", tensorrt=True))
    assert session_there.provider == TENSORRT
    np.testing.assert_allclose(session_there.run(numbers(64))["prediction"],
                               session(NUMERIC, "cpu").run(numbers(64))["prediction"], rtol=1e-2, atol=1e-2)


def test_cuda_version_loads_and_warms_up() -> None:
    data = NUMERIC.build()
    engine = Engine.load(NUMERIC.manifest(data), data, Setup(settle_device(Options("auto"))), Limits(), SystemClock())
    assert engine.provider == CUDA
    assert 0 < engine.timing.batch_s < 1
    engine.close()
