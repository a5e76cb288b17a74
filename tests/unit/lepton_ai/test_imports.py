"""A model trained elsewhere from the user's side: sent as ONNX, and told what became of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, external_data_helper, helper, numpy_helper
from sklearn.linear_model import LogisticRegression

from lepton.errors import Invalid, Missing, Refused
from lepton_ai import LeptonClient
from lepton_ai._library.importing import of_file
from tests.unit.lepton_ai.doors import KEY_ID, SECRET, Answer, Desk, open_door

SPEC = {"metadata": {"name": "shop"}, "events": {"id": "event_id", "fields": {
    "a": {"type": "float"}, "b": {"type": "int"}}, "label": {"field": "bought", "type": "bool"}}}


class Taking(Desk):
    """Takes files beside all else."""

    files: tuple[bytes, ...] = ()

    def answer(self, method: str, path: str, body: bytes) -> Answer:
        if path != "/v1/models/shop/import":
            return super().answer(method, path, body)
        self.files += (body,)
        return self._train("shop", {"family": "imported", "command_id": f"c{len(self.files)}"})


@pytest.fixture
def desk() -> Taking:
    found = Taking()
    found.pipelines["shop"] = {"name": "shop", "spec": SPEC}
    return found


@pytest.fixture
def client(desk: Taking) -> Iterator[LeptonClient]:
    with open_door(desk) as credentials, LeptonClient(KEY_ID, SECRET, credentials.rest) as opened:
        yield opened


def test_an_estimator_and_a_file_become_versions(client: LeptonClient, desk: Taking, tmp_path: Path) -> None:
    values: Any = np.array([[0.0, 1], [1.0, 0], [2.0, 1], [3.0, 0]])
    estimator = LogisticRegression().fit(values, [False, False, True, True])
    first = client.import_model(estimator, "shop")
    assert (first.name, first.version, first.family) == ("shop", 1, "imported")
    assert b"LinearClassifier" in desk.files[0] and b"ZipMap" not in desk.files[0]
    (tmp_path / "model.onnx").write_bytes(desk.files[0])
    assert client.import_model(tmp_path / "model.onnx", "shop", classes=["false", "true"]).version == 2
    assert desk.files[1] == desk.files[0]


def test_what_cannot_be_sent_is_told_here(client: LeptonClient, desk: Taking, tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(b"\x80\x05")
    with pytest.raises(Invalid, match="pickle"):
        client.import_model(tmp_path / "model.pkl", "shop")
    with pytest.raises(Missing):
        client.import_model(tmp_path / "none.onnx", "shop")
    with pytest.raises(Invalid, match="skl2onnx cannot"):
        client.import_model(object(), "shop")
    assert not desk.files
    (tmp_path / "model.onnx").write_bytes(b"\x08")
    desk.outcome = {"state": "REJECTED", "metrics": {"accuracy": 0.1}}
    with pytest.raises(Refused, match="did not pass its gate"):
        client.import_model(tmp_path / "model.onnx", "shop")


def test_the_weights_that_torch_writes_beside_a_file_are_put_into_it(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.arange(6.0, dtype=np.float32).reshape(3, 2), "weight")
    rows, scores = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", width])
                    for name, width in (("fields", 3), ("scores", 2)))
    model = helper.make_model(helper.make_graph(
        [helper.make_node("MatMul", ["fields", "weight"], ["scores"])], "theirs", [rows], [scores], [weight]))
    whole = model.SerializeToString()
    path = tmp_path / "network.onnx"
    onnx.save(model, path, save_as_external_data=True, location="network.onnx.data", size_threshold=0)
    assert path.read_bytes() != whole
    found = onnx.load_from_string(of_file(path).data)
    assert not external_data_helper.uses_external_data(found.graph.initializer[0])
    assert (numpy_helper.to_array(found.graph.initializer[0]) == numpy_helper.to_array(weight)).all()
    (tmp_path / "network.onnx.data").write_bytes(b"")
    with pytest.raises(Invalid, match="do not fit"):
        of_file(path)
