"""Callers of the gateway that are a fault: many at once, slow ones, and one who orders a training."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx

from deploy.chaos.plan import Burden, Train
from lepton.errors import Unavailable

_AGAIN_S = 0.25
_BYTE_S = 1.0
_ENDED = frozenset({"SUCCEEDED", "REJECTED", "FAILED", "CANCELLED"})


@asynccontextmanager
async def burdened(fault: Burden, rest: httpx.AsyncClient, model: str) -> AsyncIterator[None]:
    """They call for as long as the block runs. Raises Unavailable when no key can be made for them."""
    body = await asked(rest, "POST", "/v1/keys", json={"scopes": ["predict"], "description": fault.name})
    try:
        async with httpx.AsyncClient(base_url=rest.base_url, headers={"authorization": f"Bearer {body['key']}"},
                                     limits=httpx.Limits(max_connections=fault.clients), timeout=30) as own:
            call = _abuse if fault.do == "abuse" else _slowly
            calling = [asyncio.ensure_future(_over_and_over(call, own, model)) for _ in range(fault.clients)]
            try:
                yield
            finally:
                for one in calling:
                    one.cancel()
                await asyncio.wait(calling)
    finally:
        await asked(rest, "DELETE", f"/v1/keys/{body['key_id']}")


async def ordered(fault: Train, rest: httpx.AsyncClient, model: str) -> str:
    """The state in which the run ended that was ordered. Raises Unavailable when it did not within the fault's time."""
    run = (await asked(rest, "POST", f"/v1/models/{model}/train", json=fault.order))["run_id"]
    return await run_ended(rest, run, fault.for_s, fault.name)


async def run_ended(rest: httpx.AsyncClient, run: str, within_s: float, field: str) -> str:
    """The state in which a run ended. Raises Unavailable when it did not within `within_s`."""
    try:
        async with asyncio.timeout(within_s):
            while True:
                await asyncio.sleep(_AGAIN_S)
                state = await _state(rest, run)
                if state in _ENDED:
                    return state
    except TimeoutError:
        raise Unavailable(f"{run} did not end within {within_s:g} s", field=field) from None


async def _state(rest: httpx.AsyncClient, run: str) -> str:
    """Empty while the gateway cannot say."""
    with contextlib.suppress(httpx.HTTPError):
        answer = await rest.get(f"/v1/runs/{run}")
        if answer.is_success:
            return str(answer.json()["state"])
    return ""


async def _over_and_over(call: Callable[[httpx.AsyncClient, str], Awaitable[None]], rest: httpx.AsyncClient,
                         model: str) -> None:
    while True:
        # Refused, too late, cut: to whom calls like these it is all the same.
        with contextlib.suppress(httpx.HTTPError):
            await call(rest, model)
        await asyncio.sleep(0)


async def _abuse(rest: httpx.AsyncClient, model: str) -> None:
    await rest.post(f"/v1/models/{model}/predict", json={"rows": [{}]})


async def _slowly(rest: httpx.AsyncClient, model: str) -> None:
    async def trickle() -> AsyncIterator[bytes]:
        for byte in b'{"rows": [{}]}':
            await asyncio.sleep(_BYTE_S)
            yield bytes([byte])

    await rest.post(f"/v1/models/{model}/predict", content=trickle())


async def asked(rest: httpx.AsyncClient, method: str, path: str, **request: Any) -> Any:
    """What the gateway answered, of JSON. Raises as `answered`."""
    answer = await answered(rest, method, path, **request)
    return answer.json() if answer.content else None


async def answered(rest: httpx.AsyncClient, method: str, path: str, **request: Any) -> httpx.Response:
    """The gateway's answer. Raises Unavailable when it gives none, or refuses."""
    try:
        answer = await rest.request(method, path, **request)
    except httpx.HTTPError as failure:
        raise Unavailable(f"the gateway does not answer: {failure!r}", place=path) from failure
    if not answer.is_success:
        raise Unavailable(f"the gateway answered {answer.status_code}: {answer.text[:200]}", place=path)
    return answer
