"""A request whose rows were all told what is wrong with them was answered, by whatever counts requests."""

import math
from pathlib import Path

from google.protobuf import struct_pb2

from lepton.clock import SystemClock
from lepton.contracts.pb import prediction_pb2
from services.predictor.flow.answered import Logging
from services.predictor.flow.beside import Beside
from services.predictor.flow.entities import Entities
from services.predictor.flow.predictor import Predictor
from tests.harness.onnx_models import Linear
from tests.unit.predictor.held import held


class Asked:
    deadline, arrived, course = math.inf, 0.0, None

    def traceparent(self) -> None:
        return None

    def local(self) -> bool:
        return True


async def test_it_is_a_success_of_no_rows(tmp_path: Path) -> None:
    row = struct_pb2.Struct()
    row.update({"amount": "twelve"})
    async with held(tmp_path) as here:
        await here.library.adopt(await here.registry.publish("tiny", Linear({"amount": "float"})))
        clock = SystemClock()
        predictor = Predictor(here.library, Beside(here.library, clock), Entities(clock), clock, lambda _: None,
                              Logging(0.0, digested=False))
        answer = await predictor.predict(prediction_pb2.PredictRequest(model="tiny", each=True, rows=[row]), Asked())
        assert [one.error.outcome for one in answer.rows] == ["Invalid"]
        (told,) = predictor.statistics("tiny").model_stats
        stats = told.inference_stats
        assert (stats.success.count, stats.compute_infer.count, stats.fail.count) == (1, 1, 0)
        assert (told.inference_count, told.execution_count) == (0, 0)
