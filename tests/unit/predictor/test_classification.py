"""The classification extension: the best classes of each row as text, with the labels where the model has them."""

import numpy as np
import pytest

from lepton.contracts.pb import grpc_service_pb2 as oip
from lepton.errors import Invalid
from services.predictor.core.oip.extras import top
from tests.harness.onnx_models import Linear
from tests.unit.predictor.conftest import Load


def test_values_come_best_first_with_index_and_label() -> None:
    scores = np.array([[0.25, 0.5, 0.25], [0.1, 0.2, 0.7]], dtype=np.float32)
    assert top(scores, 2, ("a", "b", "c")).tolist() == [["0.500000:1:b", "0.250000:0:a"],
                                                        ["0.700000:2:c", "0.200000:1:b"]]
    assert top(scores, 9, ("a", "b")).tolist()[0] == ["0.500000:1", "0.250000:0", "0.250000:2"]
    assert top(np.array([3, 5], dtype=np.uint8), 1, ()).tolist() == [["3:0"], ["5:0"]]


def test_a_request_for_classes_is_answered_with_text_of_so_many(load: Load) -> None:
    engine = load(Linear({"amount": "float"}, classes=("no", "yes")))
    request = oip.ModelInferRequest(model_name="tiny", id="r")
    request.inputs.add(name="amount", datatype="FP64", shape=[2]).contents.fp64_contents.extend([5.0, -5.0])
    request.outputs.add(name="probabilities").parameters["classification"].int64_param = 1
    request.outputs.add(name="label")
    read = engine.prepare(request)
    answer = engine.respond(engine._session.run(read.feed.arrays), read)
    assert [(one.name, one.datatype, list(one.shape)) for one in answer.outputs] == [
        ("probabilities", "BYTES", [2, 1]), ("label", "BYTES", [2])]
    first, second = answer.raw_output_contents
    assert b":1:yes" in first
    assert b":0:no" in first
    assert second == b"\x03\x00\x00\x00yes\x02\x00\x00\x00no"


@pytest.mark.parametrize(("output", "count"), [("label", 1), ("probabilities", 0), ("probabilities", -1)])
def test_classes_of_text_or_none_of_them_are_refused(load: Load, output: str, count: int) -> None:
    engine = load(Linear({"amount": "float"}, classes=("no", "yes")))
    request = oip.ModelInferRequest(model_name="tiny")
    request.inputs.add(name="amount", datatype="FP64", shape=[1]).contents.fp64_contents.append(5.0)
    request.outputs.add(name=output).parameters["classification"].int64_param = count
    with pytest.raises(Invalid, match="best"):
        engine.prepare(request)
