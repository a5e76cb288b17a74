"""tritonclient over gRPC with asyncio: many requests at once, and a stream."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import echoed
import triton_calls as calls
import tritonclient.grpc.aio as triton


async def main() -> None:
    async with triton.InferenceServerClient(echoed.address()) as client:
        headers = echoed.headers()
        assert await client.is_server_ready()
        assert await client.is_model_ready("mlp", headers=headers)
        sent = echoed.arrays()

        async def ask(number: int) -> None:
            result = await client.infer("echo", calls.inputs(triton, sent), request_id=str(number), headers=headers)
            calls.check_result(result, sent)
            assert result.get_response().id == str(number)

        await asyncio.gather(*(ask(number) for number in range(20)))

        async def requests() -> AsyncIterator[dict[str, Any]]:
            for number in range(20):
                yield {"model_name": "mlp", "inputs": calls.vectors(triton, 1), "request_id": str(number)}

        came = [(result.get_response().id, error)
                async for result, error in client.stream_infer(requests(), headers=headers)]
        assert came == [(str(number), None) for number in range(20)], came
        calls.check_config((await client.get_model_config("mlp", headers=headers, as_json=True))["config"],
                           await client.get_inference_statistics("mlp", headers=headers, as_json=True))


asyncio.run(main())
