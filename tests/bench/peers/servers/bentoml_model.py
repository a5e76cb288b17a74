"""The model as BentoML's service."""

import os
from typing import Any

import bentoml
import numpy as np

from tests.bench.peers.servers.bentoml import FILE
from tests.bench.peers.servers.mlp import MAX_BATCH, OUTPUTS, Mlp


@bentoml.service(workers=1, traffic={"timeout": 30}, metrics={"enabled": False}, logging={"access": {"enabled": False}})
class Service:
    def __init__(self) -> None:
        self._model = Mlp(os.environ[FILE])

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH, max_latency_ms=30_000)  # type: ignore[untyped-decorator]
    def infer(self, x: list[list[float]]) -> list[dict[str, Any]]:
        answers = self._model(np.asarray(x, dtype="f4"))
        return [dict(zip(OUTPUTS, ([label], [one]), strict=True))
                for label, one in zip(answers[0].tolist(), answers[1].tolist(), strict=True)]
