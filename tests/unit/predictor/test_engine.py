"""A version loads only when file and manifest agree, and answers requests, rows and batches alike."""

import numpy as np
import pyarrow as pa
import pytest
from google.protobuf import json_format, struct_pb2

from lepton.clock import FakeClock, SystemClock
from lepton.contracts.pb import grpc_service_pb2 as oip
from lepton.errors import Invalid, Refused
from services.predictor.core import engine as engines
from services.predictor.core.batching.limits import Limits
from services.predictor.core.engine import Engine, Setup
from services.predictor.core.session import CPU, Options, Timing
from tests.harness.onnx_models import Linear
from tests.unit.predictor.conftest import FIELDS, Load

NEVER = float("inf")


def request(amount: float) -> oip.ModelInferRequest:
    asked = oip.ModelInferRequest(model_name="tiny", id="r")
    for name, datatype, raw in (("amount", "FP64", np.array([amount]).tobytes()),
                                ("count", "INT64", np.array([2]).tobytes()), ("known", "BOOL", b"\x01"),
                                ("country", "BYTES", b"\x02\x00\x00\x00us")):
        asked.inputs.add(name=name, datatype=datatype, shape=[1])
        asked.raw_input_contents.append(raw)
    return asked


async def test_tensors_rows_and_batches_get_the_same_answer(load: Load) -> None:
    engine = load()
    assert engine.provider == CPU
    asked = engine.prepare(request(1.5))
    response = engine.respond(await engine.answer(asked.feed, NEVER), asked)
    by_tensor = np.frombuffer(response.raw_output_contents[0], "<f4").tolist()
    row = json_format.ParseDict({"amount": 1.5, "count": 2, "known": True, "country": "us"}, struct_pb2.Struct())
    by_name = engine.read(await engine.answer(engine.prepare_rows([row]), NEVER)).rows()
    batch = pa.record_batch({"amount": pa.array([1.5]), "count": pa.array([2]), "known": pa.array([True]),
                             "country": pa.array(["us"])})
    by_stream = engine.score(batch)[0].rows()
    assert by_tensor == [5.5] and list(by_name) == list(by_stream) == [{"number": 5.5}]
    assert response.model_version == "1"
    assert (engine.take_work(), engine.take_work()) == ((2, 2), (0, 0))


def test_labels_come_as_text_with_their_probabilities(load: Load) -> None:
    engine = load(Linear({"amount": "float"}, classes=("no", "yes")))
    (answers,) = engine.score(pa.record_batch({"amount": pa.array([-3.0, 3.0])}))
    assert answers.texts() == ["no", "yes"]
    assert answers.classes == ("no", "yes")
    assert answers.probabilities is not None
    assert answers.probabilities.sum(axis=1).tolist() == pytest.approx([1.0, 1.0])


def test_a_stream_longer_than_one_run_keeps_its_order(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "SCORING_ROWS", 7)
    engine = load(Linear({"amount": "float"}))
    found = engine.score(pa.record_batch({"amount": pa.array([float(i) for i in range(20)])}))
    assert [row["number"] for answers in found for row in answers.rows()] == [float(i) for i in range(20)]
    assert len(found) == 3


def test_outputs_that_do_not_exist_are_invalid_before_anything_runs(load: Load) -> None:
    asked = request(1.0)
    asked.outputs.add(name="nothing")
    with pytest.raises(Invalid, match="no output"):
        load().prepare(asked)


def test_how_much_runs_on_the_loop_follows_from_the_warm_up(load: Load) -> None:
    assert engines.inline_rows(Timing(single_s=0.0001, batch_s=0.0005, rows=64)) == 128
    assert engines.inline_rows(Timing(single_s=0.0009, batch_s=0.1, rows=64)) == 1
    assert engines.inline_rows(Timing(single_s=0.002, batch_s=0.1, rows=64)) == 0
    tiny, slow = load(Linear({"amount": "float"})), load(Linear({"amount": "float"}, hidden=1024))
    assert tiny.is_quick(64)
    assert not slow.is_quick(64)


class Steps(FakeClock):
    """Each look at it is `step_s` after the one before."""

    def __init__(self, step_s: float) -> None:
        super().__init__()
        self._at, self._step_s = 0.0, step_s

    def monotonic(self) -> float:
        self._at += self._step_s
        return self._at


@pytest.mark.parametrize(("run_s", "rows"), [(0.00001, 6400), (0.0005, 128), (0.0011, 0)])
def test_the_warm_up_decides_and_the_configuration_tells(run_s: float, rows: int) -> None:
    linear = Linear(FIELDS)
    data = linear.build()
    engine = Engine.load(linear.manifest(data), data, Setup(Options("cpu")), Limits(max_rows=64), Steps(run_s))
    told = {name: one.string_value for name, one in engine.config("p", [1]).parameters.items()}
    assert (told["inline_rows"], told["warm_up_batch_rows"]) == (str(rows), "64")
    assert told["warm_up_row_us"] == told["warm_up_batch_us"] == f"{run_s * 1e6:.1f}"
    assert (engine.is_quick(64), engine.is_quick(1)) == (rows >= 64, rows > 0)
    engine.close()


def test_an_operator_the_manifest_does_not_list_is_refused() -> None:
    linear = Linear(FIELDS)
    data = linear.build()
    manifest = linear.manifest(data)
    manifest.operators.remove("ai.onnx::Concat")
    with pytest.raises(Refused, match=r"ai\.onnx::Concat"):
        Engine.load(manifest, data, Setup(Options("cpu")), Limits(), SystemClock())
