"""Which servers there are to measure, how each is set and asked, and what a right answer is."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np

from deploy.local.servers.environment import installed
from lepton.contracts.pb import grpc_service_pb2 as oip
from tests.bench.peers.process import Tree, serving
from tests.bench.peers.servers.mlp import INPUT, NAME, OUTPUTS, Array, Mlp
from tests.harness.servers import free_ports

ROOT = Path(__file__).parents[3]
METHOD = "/inference.GRPCInferenceService/ModelInfer"
NEEDED_MB = 2000
CLOSE = 1e-4


@dataclass(frozen=True)
class Peer:
    """A server and one way to set it; `server` is its file in `servers`, `lock` its environment."""

    name: str
    server: str
    lock: str
    setting: str = ""
    post: str = ""
    nested: bool = False

    @property
    def streams(self) -> bool:
        """Whether it answers each request of a stream; MLServer ends a stream with the first."""
        return self.server in ("triton", "pytriton")

    def request(self, rows: Array) -> bytes:
        """One row, [1, width], as this server reads it."""
        if self.post:
            return json.dumps({INPUT: rows.tolist() if self.nested else rows[0].tolist()}).encode()
        message = oip.ModelInferRequest(model_name=NAME, id="bench")
        message.inputs.add(name=INPUT, datatype="FP32", shape=rows.shape)
        message.raw_input_contents.append(rows.astype("<f4").tobytes())
        return message.SerializeToString()

    def answers(self, address: str, request: bytes, expected: Array) -> bool:
        """Whether it answers at all; raises AssertionError for a wrong answer."""
        try:
            told = self._web(address, request) if self.post else self._grpc(address, request)
        except (grpc.RpcError, httpx.HTTPError):
            return False
        assert np.allclose(np.ravel(told), np.ravel(expected), atol=CLOSE), f"{self.name} answers {told}"
        return True

    def _web(self, address: str, request: bytes) -> Any:
        answer = httpx.post(f"http://{address}{self.post}", content=request, timeout=5,
                            headers={"content-type": "application/json"}).raise_for_status().json()
        return (answer[0] if self.nested else answer)[OUTPUTS[1]]

    def _grpc(self, address: str, request: bytes) -> Any:
        with grpc.insecure_channel(address) as channel:
            call: Any = channel.unary_unary(METHOD)
            answer = oip.ModelInferResponse.FromString(call(request, timeout=5))
        at = [one.name for one in answer.outputs].index(OUTPUTS[1])
        if answer.raw_output_contents:
            return np.frombuffer(answer.raw_output_contents[at], "<f4")
        return answer.outputs[at].contents.fp32_contents


PEERS = (
    Peer("Triton", "triton", "triton", "0"),
    Peer("Triton, queue delay 1 ms", "triton", "triton", "1000"),
    Peer("PyTriton", "pytriton", "triton", "0"),
    Peer("MLServer", "mlserver", "mlserver", "1"),
    Peer("MLServer, adaptive batching", "mlserver", "mlserver", "64"),
    Peer("LitServe", "litserve", "litserve", "1000", post="/predict"),
    Peer("BentoML", "bentoml", "bentoml", post="/infer", nested=True),
    Peer("Ray Serve", "ray", "ray", "0"),
)
TRITON = tuple(peer.name for peer in PEERS if peer.server == "triton")


@contextmanager
def running(peer: Peer, file: Path) -> Iterator[tuple[str, Tree, bytes]]:
    """Address, processes and a request of the peer, once it answers as the file does when it is run here.

    Raises Unavailable where it cannot be installed or does not start.
    """
    environment = installed(ROOT / "requirements" / f"peer-{peer.lock}.lock", peer.name, NEEDED_MB)
    model = Mlp(str(file))
    rows = np.ones((1, model.width), "f4")
    request, expected = peer.request(rows), model(rows)[1]
    port, = free_ports(1)
    address = f"127.0.0.1:{port}"
    command = [str(environment / "bin" / "python"), "-m", f"tests.bench.peers.servers.{peer.server}", str(file),
               str(port), *([peer.setting] if peer.setting else [])]
    log = file.parent / f"{peer.server}-{file.stem}.log"
    with serving(command, log, lambda: peer.answers(address, request, expected)) as tree:
        yield address, tree, request
