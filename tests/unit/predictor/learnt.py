"""Models that the trainer learnt in this process, as the registry of a predictor's test takes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf import struct_pb2

from lepton.contracts.pb import models_pb2, prediction_pb2, prediction_pb2_grpc
from services.trainer.core.learning import Learned, manifest
from services.trainer.core.plan import Plan
from tests.unit.predictor.world import World


@dataclass(frozen=True)
class Learnt:
    """What a trainer learnt, by what plan; given to `registry.publish`."""

    plan: Plan
    learned: Learned

    def build(self) -> bytes:
        return self.learned.exported.data

    def manifest(self, data: bytes, model: str, version: int) -> models_pb2.ModelManifest:
        told = manifest(self.plan, self.learned, "test")
        told.model, told.version = model, version
        return told


async def predict(here: World, model: str, rows: Sequence[Mapping[str, Any]], *,
                  explain: bool = False) -> prediction_pb2.PredictResponse:
    """Answers by named fields, a null one left as null."""
    request = prediction_pb2.PredictRequest(model=model, explain=explain)
    for row in rows:
        struct = struct_pb2.Struct()
        struct.update(row)
        request.rows.append(struct)
    stub: Any = prediction_pb2_grpc.PredictionStub(here.channel)
    answer: prediction_pb2.PredictResponse = await stub.Predict(request, metadata=here.metadata)
    return answer
