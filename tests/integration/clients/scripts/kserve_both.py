"""kserve's clients: REST to the gateway, gRPC to the predictor; addresses are given in this order."""

import asyncio
import sys

import echoed
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig

ROWS = np.ones((2, 30), dtype=np.float32)


def request(*, binary: bool) -> InferRequest:
    tensor = InferInput("x", list(ROWS.shape), "FP32")
    tensor.set_data_from_numpy(ROWS, binary_data=binary)
    return InferRequest(model_name="mlp", infer_inputs=[tensor], request_id="r-9")


async def main() -> None:
    rest, grpc = f"http://{sys.argv[1]}", sys.argv[2]
    headers = echoed.headers()
    client = InferenceRESTClient(RESTConfig(protocol="v2", retries=0))
    assert await client.is_server_live(rest)
    assert await client.is_server_ready(rest)
    assert await client.is_model_ready(rest, "mlp", headers=headers)
    for binary in (False, True):
        answer = await client.infer(rest, request(binary=binary), model_name="mlp", headers=dict(headers))
        assert answer.id == "r-9", answer
        assert [output.shape for output in answer.outputs] == [[2], [2, 2]], answer
    await client.close()

    async with InferenceGRPCClient(grpc) as direct:
        metadata = tuple(headers.items())
        assert await direct.is_server_ready()
        assert await direct.is_model_ready("mlp", headers=metadata)
        for binary in (False, True):
            answer = await direct.infer(request(binary=binary), headers=metadata)
            assert answer.id == "r-9", answer
            found = next(output for output in answer.outputs if output.name == "probabilities")
            assert np.allclose(found.as_numpy().sum(axis=1), 1), answer


asyncio.run(main())
