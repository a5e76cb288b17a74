"""A real HTTP server with a growing list of items behind every kind of paging, which can be told to misbehave."""

import asyncio
import json
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import uvicorn

from tests.harness.wait import apoll_until


@dataclass
class Api:
    """`/plain`, `/page`, `/offset`, `/cursor` and `/link` serve `items`; `refusals` are answered first."""

    items: list[Any] = field(default_factory=list)
    size: int = 10
    """Items of a page."""
    token: str = ""
    refusals: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)
    address: str = ""

    def url(self, path: str) -> str:
        return f"http://{self.address}/{path}"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        path = scope["path"].strip("/")
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.asked[path] += 1
        if self.token and headers.get("authorization") != f"Bearer {self.token}":
            await _answer(send, 401, {}, b"{}")
        elif self.refusals:
            await _answer(send, *self.refusals.pop(0))
        else:
            query = {name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()}
            await _answer(send, 200, *self._page(path, query))

    def _page(self, path: str, query: dict[str, str]) -> tuple[dict[str, str], bytes]:
        if path == "plain":
            return {}, _json(self.items)
        if path == "offset":
            start = int(query.get("from", 0))
            return {}, _json({"data": {"rows": self.items[start:start + self.size]}})
        number = int(query.get("page", query.get("after", 1)))
        found = self.items[(number - 1) * self.size:number * self.size]
        more = len(self.items) > number * self.size
        if path == "cursor":
            return {}, _json({"items": found, "meta": {"next": str(number + 1) if more else None}})
        if path == "link" and more:
            return {"link": f'</link?page=1>; rel="prev", </link?page={number + 1}>; title="a, b"; rel="next last"'}, \
                _json(found)
        return {}, _json(found)


@asynccontextmanager
async def serving(api: Api) -> AsyncIterator[Api]:
    """The server on a free port of this machine."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    api.address = f"127.0.0.1:{listener.getsockname()[1]}"
    server = uvicorn.Server(uvicorn.Config(api, log_level="error", lifespan="off"))
    running = asyncio.ensure_future(server.serve(sockets=[listener]))

    async def started() -> bool:
        return server.started

    await apoll_until(started, "the API to listen")
    try:
        yield api
    finally:
        server.should_exit = True
        await running
        listener.close()


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


async def _answer(send: Any, status: int, headers: dict[str, str], body: bytes) -> None:
    told = [(name.encode(), value.encode()) for name, value in {"content-type": "application/json", **headers}.items()]
    await send({"type": "http.response.start", "status": status, "headers": told})
    await send({"type": "http.response.body", "body": body})
