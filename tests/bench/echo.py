"""An empty grpc.aio server: the protocol's unary call, its message decoded, an empty one returned; no model, no checks.

    python -m tests.bench.echo        prints its address, serves until its input ends
"""

import asyncio
import sys

import grpc
import uvloop

from lepton.contracts.pb import grpc_service_pb2 as oip


async def infer(request: oip.ModelInferRequest, _: object) -> oip.ModelInferResponse:
    return oip.ModelInferResponse(id=request.id)


async def serve() -> None:
    server = grpc.aio.server()
    method = grpc.unary_unary_rpc_method_handler(infer, oip.ModelInferRequest.FromString,
                                                 oip.ModelInferResponse.SerializeToString)
    server.add_generic_rpc_handlers((
        grpc.method_handlers_generic_handler("inference.GRPCInferenceService", {"ModelInfer": method}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(0)


if __name__ == "__main__":
    uvloop.run(serve())
