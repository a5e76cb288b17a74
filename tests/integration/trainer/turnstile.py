"""A way to the database that sees which request passes and ends who asks right there: no sooner, and no later.

It reads the wire (OP_MSG of the MongoDB protocol), so the program behind it runs as it is and knows nothing of it.
"""

import asyncio
import struct
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import bson

_HEADER = struct.Struct("<iiii")
_OP_MSG = 2013
_SECTIONS_AT = _HEADER.size + 4


@dataclass(frozen=True, slots=True)
class Request:
    """A command on a collection, and the documents it carries."""

    command: str
    collection: str
    documents: tuple[dict[str, Any], ...]

    @property
    def sets(self) -> dict[str, Any]:
        """The members that an update of one document sets."""
        return dict(self.documents[0].get("u", {}).get("$set", {})) if self.documents else {}

    @property
    def puts(self) -> bool:
        """Whether it writes a document whether or not there is one."""
        return bool(self.documents) and bool(self.documents[0].get("upsert", False))


@dataclass(frozen=True, slots=True)
class Strike:
    """The end of whoever sends a request that `at` knows: before it is passed on, or once it is `done` and before its
    answer comes back. Until then what `held` knows is not passed on, as from a database that is slow."""

    name: str
    at: Callable[[Request], bool]
    done: bool = False
    held: Callable[[Request], bool] = lambda request: False


class Turnstile:
    """One program at a time goes through; once it was struck nothing of it passes any more, on no connection."""

    def __init__(self, host: str, port: int) -> None:
        self._behind = host, port
        self._strike: Strike | None = None
        self._kill: Callable[[], None] = lambda: None
        # Connections of a program that was struck are of an earlier turn, and dead with it.
        self._turn = 0
        self._pumps: set[asyncio.Task[None]] = set()
        self.errors: list[Exception] = []
        self.struck = asyncio.Event()
        self.passed: deque[str] = deque(maxlen=40)

    @classmethod
    @asynccontextmanager
    async def before(cls, url: str) -> AsyncIterator[tuple["Turnstile", str]]:
        """It and the URL of the database by way of it, while the block runs."""
        target = urlsplit(url)
        turnstile = cls(str(target.hostname), int(target.port or 0))
        server = await asyncio.start_server(turnstile._serve, "127.0.0.1", 0)
        try:
            yield turnstile, f"mongodb://127.0.0.1:{server.sockets[0].getsockname()[1]}/?directConnection=true"
        finally:
            server.close()
            for pump in turnstile._pumps:
                pump.cancel()
            await asyncio.gather(*turnstile._pumps, return_exceptions=True)
        assert not turnstile.errors, turnstile.errors

    def strike(self, strike: Strike | None, kill: Callable[[], None]) -> None:
        """Let the next program through, to be ended by `kill` at the strike; None: it lives."""
        self._turn += 1
        self._strike, self._kill = strike, kill
        self.struck.clear()
        self.passed.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pump = asyncio.current_task()
        assert pump is not None
        self._pumps.add(pump)
        try:
            await _Passage(self, self._turn, (reader, writer), await asyncio.open_connection(*self._behind)).pump()
        except asyncio.CancelledError:
            # The end of the block: the server that began this task logs it as a failure otherwise.
            writer.close()
        finally:
            self._pumps.discard(pump)

    def closed(self, turn: int) -> bool:
        return self.struck.is_set() or turn != self._turn

    def fate(self, request: Request) -> Strike | None:
        """The strike that this request meets."""
        self.passed.append(f"{request.command} {request.collection}")
        return self._strike if self._strike is not None and self._strike.at(request) else None

    def holds(self, request: Request) -> bool:
        return self._strike is not None and self._strike.held(request)

    def hit(self) -> None:
        self.struck.set()
        self._kill()


Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Passage:
    """One connection: the driver asks one thing at a time on it and waits for the answer."""

    def __init__(self, turnstile: Turnstile, turn: int, front: Ends, behind: Ends) -> None:
        self._turnstile = turnstile
        self._turn = turn
        self._front = front
        self._behind = behind
        self._last_answer: int | None = None

    async def pump(self) -> None:
        """Until one of both ends closes."""
        ways = [asyncio.ensure_future(self._asked()), asyncio.ensure_future(self._answered())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            ended = await asyncio.gather(*ways, return_exceptions=True)
            self._turnstile.errors += [one for one in ended if isinstance(one, Exception)
                                       and not isinstance(one, (OSError, EOFError))]
            self._front[1].close()
            self._behind[1].close()

    async def _asked(self) -> None:
        reader, behind = self._front[0], self._behind[1]
        while True:
            frame = await _frame(reader)
            # From here to the write nothing else runs: what is decided on one connection holds for all.
            if self._turnstile.closed(self._turn):
                continue
            request = _request(frame)
            strike = self._turnstile.fate(request) if request is not None else None
            if strike is not None and not strike.done:
                self._turnstile.hit()
                continue
            if request is not None and self._turnstile.holds(request):
                continue
            if strike is not None:
                self._last_answer = _HEADER.unpack_from(frame)[1]
            behind.write(frame)
            await behind.drain()

    async def _answered(self) -> None:
        reader, front = self._behind[0], self._front[1]
        while True:
            frame = await _frame(reader)
            if self._turnstile.closed(self._turn):
                continue
            if _HEADER.unpack_from(frame)[2] == self._last_answer:
                self._turnstile.hit()
                continue
            front.write(frame)
            await front.drain()


async def _frame(reader: asyncio.StreamReader) -> bytes:
    header = await reader.readexactly(_HEADER.size)
    return header + await reader.readexactly(_HEADER.unpack(header)[0] - _HEADER.size)


def _request(frame: bytes) -> Request | None:
    """What a frame asks for; None for what is no command."""
    if _HEADER.unpack_from(frame)[3] != _OP_MSG:
        return None
    body: dict[str, Any] = {}
    documents: list[dict[str, Any]] = []
    at = _SECTIONS_AT
    while at < len(frame):
        kind, at = frame[at], at + 1
        size = struct.unpack_from("<i", frame, at)[0]
        if kind == 0:
            body = bson.decode(frame[at:at + size])
        else:
            first = frame.index(b"\0", at + 4) + 1
            documents += bson.decode_all(frame[first:at + size])
        at += size
    command = next(iter(body))
    return Request(command, str(body[command]), tuple(documents))
