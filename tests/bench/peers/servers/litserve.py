"""Starts LitServe with the model as its API: JSON over HTTP, batches made by the server.

    python -m tests.bench.peers.servers.litserve FILE PORT DELAY_US
"""

import sys
from typing import Any

import litserve
import numpy as np

from tests.bench.peers.servers.mlp import INPUT, MAX_BATCH, OUTPUTS, Array, Mlp


class Api(litserve.LitAPI):  # type: ignore[misc]  # untyped
    file = ""

    def setup(self, device: str) -> None:
        self._model = Mlp(self.file)

    def decode_request(self, request: dict[str, Any]) -> Array:
        return np.asarray(request[INPUT], dtype="f4")

    def batch(self, inputs: list[Array]) -> Array:
        return np.stack(inputs)

    def predict(self, x: Array) -> tuple[Array, Array]:
        return self._model(x)

    def unbatch(self, output: tuple[Array, Array]) -> list[tuple[Array, Array]]:
        return list(zip(*output, strict=True))

    def encode_response(self, output: tuple[Array, Array]) -> dict[str, Any]:
        return {name: one.tolist() for name, one in zip(OUTPUTS, output, strict=True)}


def main() -> None:
    file, port, delay = sys.argv[1:4]
    api = Api(max_batch_size=MAX_BATCH, batch_timeout=int(delay) / 1e6)
    api.file = file
    litserve.LitServer(api, accelerator="cpu", workers_per_device=1).run(
        host="127.0.0.1", port=int(port), num_api_servers=1, generate_client_file=False, log_level="error")


if __name__ == "__main__":
    main()
