"""A process that keeps N unary calls under way against one address for some seconds, and says what came of it.

    python -m tests.bench.load ADDRESS METHOD CLIENTS SECONDS < request bytes

It sends bytes it does not understand, so that its own cost is the same whatever the server does with them.
"""

import asyncio
import json
import sys
import time
from typing import Any

import grpc
import uvloop

MAX_CHANNELS = 8
"""One connection is served by one flow-control window; more clients share these."""


async def load(address: str, method: str, clients: int, seconds: float, request: bytes,
               metadata: tuple[tuple[str, str], ...]) -> dict[str, float]:
    took: list[float] = []
    failed = 0
    channels = [grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
                for _ in range(min(clients, MAX_CHANNELS))]
    ends_at = time.perf_counter() + seconds

    async def client(number: int) -> None:
        nonlocal failed
        call: Any = channels[number % len(channels)].unary_unary(method)
        while (started := time.perf_counter()) < ends_at:
            try:
                await call(request, metadata=metadata)
            except grpc.aio.AioRpcError:
                failed += 1
            else:
                took.append(time.perf_counter() - started)

    started = time.perf_counter()
    await asyncio.gather(*(client(number) for number in range(clients)))
    elapsed = time.perf_counter() - started
    for channel in channels:
        await channel.close()
    took.sort()
    return {"requests_per_s": len(took) / elapsed, "requests": len(took), "failed": failed,
            "p50_ms": took[len(took) // 2] * 1000 if took else 0.0,
            "p99_ms": took[int(len(took) * 0.99)] * 1000 if took else 0.0}


def main() -> None:
    address, method, clients, seconds, authorization = sys.argv[1:6]
    metadata = (("authorization", authorization),) if authorization else ()
    result = uvloop.run(load(address, method, int(clients), float(seconds), sys.stdin.buffer.read(), metadata))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
