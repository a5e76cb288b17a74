"""tritonclient over HTTP with asyncio."""

import asyncio

import echoed
import triton_calls as calls
import tritonclient.http.aio as triton


async def main() -> None:
    async with triton.InferenceServerClient(echoed.address()) as client:
        headers = echoed.headers()
        assert await client.is_server_ready()
        assert await client.is_model_ready("mlp", headers=headers)
        sent = echoed.arrays()

        async def ask(number: int) -> None:
            result = await client.infer("echo", calls.inputs(triton, sent), request_id=str(number), headers=headers)
            calls.check_result(result, sent)
            assert result.get_response()["id"] == str(number)

        await asyncio.gather(*(ask(number) for number in range(10)))
        calls.check_config(await client.get_model_config("mlp", headers=headers),
                           await client.get_inference_statistics("mlp", headers=headers))


asyncio.run(main())
