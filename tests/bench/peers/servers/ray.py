"""Starts Ray Serve with the model behind its gRPC proxy: one replica, batches made by `serve.batch`.

    python -m tests.bench.peers.servers.ray FILE PORT DELAY_US
"""

import os
import signal
import socket
import sys
import tempfile
from pathlib import Path

import numpy as np

from lepton.contracts.pb.grpc_service_pb2 import ModelInferRequest, ModelInferResponse
from tests.bench.peers.servers.mlp import MAX_BATCH, NAME, OUTPUTS, Array, Mlp

SERVICER = "lepton.contracts.pb.grpc_service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server"


def response(request: ModelInferRequest, label: Array, probabilities: Array) -> ModelInferResponse:
    answer = ModelInferResponse(model_name=NAME, id=request.id)
    for name, kind, one in zip(OUTPUTS, ("INT64", "FP32"), (label, probabilities), strict=True):
        answer.outputs.add(name=name, datatype=kind, shape=one.shape)
        answer.raw_output_contents.append(one.tobytes())
    return answer


def main() -> None:
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_SERVE_ENABLE_TASK_EVENTS="0")
    import ray  # after its settings
    from ray import serve
    from ray.serve.config import HTTPOptions, gRPCOptions

    file, port, delay = sys.argv[1:4]

    @serve.deployment(num_replicas=1, max_ongoing_requests=256, ray_actor_options={"num_cpus": 0.1})
    class Served:
        def __init__(self) -> None:
            self._model = Mlp(file)

        @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=int(delay) / 1e6)  # type: ignore[untyped-decorator]
        async def run(self, requests: list[ModelInferRequest]) -> list[ModelInferResponse]:
            rows = [np.frombuffer(one.raw_input_contents[0], "f4").reshape(tuple(one.inputs[0].shape))
                    for one in requests]
            label, probabilities = self._model(np.concatenate(rows))
            ends = np.cumsum([len(one) for one in rows])
            return [response(one, label[end - len(own):end], probabilities[end - len(own):end])
                    for one, own, end in zip(requests, rows, ends, strict=True)]

        async def ModelInfer(self, request: ModelInferRequest) -> ModelInferResponse:
            answer: ModelInferResponse = await self.run(request)
            return answer

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        http_port = taken.getsockname()[1]
    ray.init(_node_ip_address="127.0.0.1", include_dashboard=False, num_cpus=2, object_store_memory=100 * 2**20,
             _temp_dir=tempfile.mkdtemp(prefix="r-", dir=Path(file).parent),
             runtime_env={"env_vars": {"PYTHONPATH": str(Path.cwd())}})
    serve.start(http_options=HTTPOptions(host="127.0.0.1", port=http_port),
                grpc_options=gRPCOptions(port=int(port), grpc_servicer_functions=[SERVICER]))
    serve.run(Served.bind(), name=NAME)  # type: ignore[attr-defined]  # untyped: the decorator adds it
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
