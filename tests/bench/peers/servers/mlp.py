"""The benchmark's model as every peer runs it: ONNX Runtime on one thread, a batch of rows in, two arrays out."""

from typing import Any

import numpy as np
import onnxruntime as ort

Array = np.ndarray[Any, Any]

NAME, INPUT, OUTPUTS = "mlp", "x", ("label", "probabilities")
MAX_BATCH = 64


class Mlp:
    """The file's model: FP32 [N, width] to INT64 [N] and FP32 [N, classes]."""

    def __init__(self, file: str) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(file, options, ["CPUExecutionProvider"])
        self.width = int(self._session.get_inputs()[0].shape[1])
        self.classes = int(self._session.get_outputs()[1].shape[1])

    def __call__(self, rows: Array) -> tuple[Array, Array]:
        label, probabilities = self._session.run(list(OUTPUTS), {INPUT: rows})
        return label, probabilities
