"""The model inside Triton's Python backend, which imports this file under a name of its own."""

import json
from typing import Any

import numpy as np
import triton_python_backend_utils as backend  # which Triton puts beside it

from tests.bench.peers.servers.mlp import INPUT, OUTPUTS, Mlp


class TritonPythonModel:
    """What Triton looks for: one call for all the requests of a batch, one answer for each."""

    def initialize(self, told: dict[str, str]) -> None:
        self._model = Mlp(json.loads(told["model_config"])["parameters"]["file"]["string_value"])

    def execute(self, requests: list[Any]) -> list[Any]:
        rows = [backend.get_input_tensor_by_name(request, INPUT).as_numpy() for request in requests]
        label, probabilities = self._model(np.concatenate(rows) if len(rows) > 1 else rows[0])
        answers, first = [], 0
        for one in rows:
            last = first + len(one)
            answers.append(backend.InferenceResponse([
                backend.Tensor(OUTPUTS[0], label[first:last]),
                backend.Tensor(OUTPUTS[1], probabilities[first:last])]))
            first = last
        return answers
