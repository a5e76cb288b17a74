"""A session says where it really runs, refuses what its manifest does not describe, and tells failures as outcomes."""

import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper

from lepton.clock import SystemClock
from lepton.contracts.pb import models_pb2
from lepton.errors import Invalid, Refused, Unavailable
from services.predictor.core import session as sessions
from services.predictor.core.session import CPU, Options, Session, settle_device
from services.predictor.core.signature import of_manifest
from tests.harness.onnx_models import Linear

TINY = Linear({"amount": "float", "country": "category"}, bias=2.0)


def cuda_here() -> bool:
    return settle_device(Options("auto")).device == "cuda"


def test_the_probe_is_the_model_it_claims_to_be() -> None:
    graph = helper.make_graph([helper.make_node("Identity", ["a"], ["b"])], "g",
                              [helper.make_tensor_value_info("a", TensorProto.FLOAT, ["N"])],
                              [helper.make_tensor_value_info("b", TensorProto.FLOAT, ["N"])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    model.ClearField("producer_name")
    assert ModelProto.FromString(sessions._PROBE) == model


def test_auto_settles_to_what_a_session_really_gets() -> None:
    settled = settle_device(Options("auto", 2))
    assert settled.intra_op_threads == 2
    probe = onnxruntime.InferenceSession(
        sessions._PROBE, providers=["CUDAExecutionProvider", CPU] if settled.device == "cuda" else [CPU])
    assert ("CUDAExecutionProvider" in probe.get_providers()) == (settled.device == "cuda")


@pytest.mark.skipif("CUDAExecutionProvider" not in onnxruntime.get_available_providers() or cuda_here(),
                    reason="needs a CUDA build of onnxruntime on a machine without a GPU")
def test_cuda_fails_loudly_where_the_build_has_it_and_the_machine_does_not() -> None:
    with pytest.raises(Unavailable, match="a session does not get it") as raised:
        settle_device(Options("cuda"))
    assert raised.value.field == "LEPTON_DEVICE"


def test_a_build_without_cuda_fails_loudly_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU])
    assert settle_device(Options("auto")).device == "cpu"
    with pytest.raises(Unavailable, match="no CUDA provider"):
        settle_device(Options("cuda"))


def test_a_run_gives_every_output_by_name() -> None:
    data = TINY.build()
    session = Session(data, of_manifest(TINY.manifest(data)), Options("cpu"))
    assert session.provider == CPU
    outputs = session.run({"amount": np.array([1.0, np.nan]), "country": np.array(["us", "de"], dtype=object),
                           "_missing": np.zeros((2, 2), dtype=bool)})
    assert outputs["prediction"].tolist() == [4.0, 2.0]


def test_warm_up_measures_one_row_and_a_batch() -> None:
    data = TINY.build()
    timing = Session(data, of_manifest(TINY.manifest(data)), Options("cpu")).warm_up(64, SystemClock())
    assert timing.rows == 64
    assert 0 < timing.single_s < 1
    assert 0 < timing.batch_s < 1


def test_values_the_runtime_refuses_are_invalid() -> None:
    data = TINY.build()
    session = Session(data, of_manifest(TINY.manifest(data)), Options("cpu"))
    with pytest.raises(Invalid, match="refuses"):
        session.run({"amount": np.zeros((2, 2)), "country": np.array(["us"], dtype=object),
                     "_missing": np.zeros((2, 2), dtype=bool)})


def test_a_run_that_fails_is_unavailable() -> None:
    data = TINY.build()
    session = Session(data, of_manifest(TINY.manifest(data)), Options("cpu"))
    with pytest.raises(Unavailable, match="failed"):
        session.run({"amount": np.zeros(3), "country": np.array(["us", "de"], dtype=object),
                     "_missing": np.zeros((2, 2), dtype=bool)})


def other_type(manifest: models_pb2.ModelManifest) -> None:
    manifest.inputs[0].datatype = "FP32"


def other_output(manifest: models_pb2.ModelManifest) -> None:
    manifest.outputs[0].name = "answer"


def less_input(manifest: models_pb2.ModelManifest) -> None:
    del manifest.inputs[1]
    manifest.inputs[1].shape[1] = 1


@pytest.mark.parametrize(("change", "said"), [
    (other_type, "its manifest says FP32"), (other_output, "not in the file"), (less_input, "does not name: country"),
])
def test_a_file_that_is_not_what_the_manifest_says_is_refused(change: object, said: str) -> None:
    data = TINY.build()
    manifest = TINY.manifest(data)
    assert callable(change)
    change(manifest)
    with pytest.raises(Refused, match=said):
        Session(data, of_manifest(manifest), Options("cpu"))


def test_a_file_that_does_not_load_is_refused() -> None:
    data = TINY.build()
    with pytest.raises(Refused, match="does not load"):
        Session(data[:-20], of_manifest(TINY.manifest(data)), Options("cpu"))


def test_a_graph_without_a_row_for_each_row_is_refused_at_warm_up() -> None:
    graph = helper.make_graph(
        [helper.make_node("ReduceSum", ["a"], ["prediction"], keepdims=1)], "g",
        [helper.make_tensor_value_info("a", TensorProto.FLOAT, ["N"])],
        [helper.make_tensor_value_info("prediction", TensorProto.FLOAT, [None])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    manifest = models_pb2.ModelManifest(
        inputs=[models_pb2.TensorSpec(name="a", datatype="FP32", shape=[-1])],
        outputs=[models_pb2.TensorSpec(name="prediction", datatype="FP32", shape=[-1])])
    session = Session(model.SerializeToString(), of_manifest(manifest), Options("cpu"))
    with pytest.raises(Refused, match="free batch dimension"):
        session.warm_up(8, SystemClock())


def test_bound_runs_equal_plain_ones() -> None:
    """What a session on CUDA does with numeric models; binding works on the CPU as well."""
    numeric = Linear({"amount": "float", "count": "int"}, bias=1.0)
    data = numeric.build()
    session = Session(data, of_manifest(numeric.manifest(data)), Options("cpu"))
    arrays = {"amount": np.array([1.0, 2.0])[::1], "count": np.array([3, 4])[::-1],
              "_missing": np.zeros((2, 2), dtype=bool)}
    plain = session.run(arrays)["prediction"].tolist()
    session._bound = True
    assert session.run(arrays)["prediction"].tolist() == plain == [6.0, 6.0]


@pytest.mark.skipif(cuda_here(), reason="needs a machine where a session does not get CUDA")
def test_a_session_that_does_not_get_cuda_says_so() -> None:
    data = TINY.build()
    with pytest.raises(Unavailable, match="runs on CPUExecutionProvider although CUDAExecutionProvider was asked for"):
        Session(data, of_manifest(TINY.manifest(data)), Options("cuda"))


def test_an_older_onnxruntime_has_nothing_to_preload(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(onnxruntime, "preload_dlls")
    assert sessions._preload() == ""


def test_a_probe_that_fails_counts_as_no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("driver and library differ")

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [sessions.CUDA, CPU])
    monkeypatch.setattr(sessions, "_open", broken)
    assert settle_device(Options("auto")).device == "cpu"
    with pytest.raises(Unavailable, match="driver and library differ"):
        settle_device(Options("cuda"))
