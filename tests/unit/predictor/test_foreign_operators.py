"""What a model needs beyond ONNX is refused by name, and runs where the settings name it too."""

import sys
from pathlib import Path

import pytest
from onnx import ModelProto, helper

from lepton.contracts.pb import grpc_service_pb2 as oip
from lepton.errors import Unavailable
from services.predictor.core.session import EXTENSIONS, Options, settle_device
from services.predictor.settings import PredictorSettings
from tests.harness.onnx_models import Linear
from tests.harness.wait import apoll_until
from tests.unit.predictor.world import amounts, world


class Foreign(Linear):
    """Doubles the sum with an operator that onnxruntime has beside ONNX's own."""

    def build(self) -> bytes:
        model = ModelProto.FromString(super().build())
        last = next(node for node in model.graph.node if node.op_type == "Add")
        place = list(model.graph.node).index(last) + 1
        last.output[0] = "half"
        nodes = [*model.graph.node[:place], helper.make_node("FusedMatMul", ["half", "unit"],
                                                            ["score"], domain="com.microsoft", alpha=2.0),
                 *model.graph.node[place:]]
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        model.graph.initializer.append(helper.make_tensor("unit", 1, [1, 1], [1.0]))
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
        return model.SerializeToString()


async def test_operators_of_another_domain_are_refused_by_name(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.registry.publish("tiny", Foreign({"amount": "float"}))

        async def reason() -> str:
            index = await here.stub.RepositoryIndex(oip.RepositoryIndexRequest(), metadata=here.metadata)
            return "".join(one.reason for one in index.models if "operators" in one.reason)
        said = await apoll_until(reason, "the refusal")
        assert "com.microsoft::FusedMatMul" in said
        assert "LEPTON_PREDICTOR_OPERATOR_DOMAINS" in said


async def test_operators_of_a_domain_that_is_allowed_by_name_run(tmp_path: Path) -> None:
    async with world(tmp_path, operator_domains="com.other, com.microsoft") as here:
        await here.registry.publish("tiny", Foreign({"amount": "float"}, bias=1.0))
        await here.serving("tiny", 1)
        answer = await here.stub.ModelInfer(amounts("tiny", 3.0), metadata=here.metadata)
        assert memoryview(answer.raw_output_contents[0]).cast("f").tolist() == [8.0]


def test_libraries_that_are_not_to_be_had_end_the_start_by_name(tmp_path: Path) -> None:
    missing = str(tmp_path / "operators.so")
    with pytest.raises(Unavailable, match=r"operators\.so") as raised:
        settle_device(Options("cpu", libraries=(missing,)))
    assert raised.value.field == "LEPTON_PREDICTOR_OPERATOR_LIBRARIES"


def test_extensions_that_are_not_installed_end_the_start_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime_extensions", None)
    with pytest.raises(Unavailable, match="onnxruntime-extensions is not installed"):
        settle_device(Options("cpu", domains=frozenset({EXTENSIONS})))


def test_tensorrt_is_not_taken_for_granted_where_a_session_runs_on_the_cpu() -> None:
    with pytest.raises(Unavailable, match="TensorRT was asked for, but a session gets CPU") as raised:
        settle_device(Options("cpu", tensorrt=True))
    assert raised.value.field == "LEPTON_PREDICTOR_TENSORRT"


def test_names_are_read_from_the_settings() -> None:
    given = PredictorSettings(instance="p", operator_domains=" a.b ,c", operator_libraries="/x/y.so,")
    assert (given.allowed_domains, given.libraries) == (frozenset({"a.b", "c"}), ("/x/y.so",))
