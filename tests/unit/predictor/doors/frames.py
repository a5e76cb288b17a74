"""An HTTP/2 peer that sends whatever frames a test wants and shows those it gets: what no gRPC client would do."""

import asyncio
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
TABLE_SIZE, MAX_STREAMS, INITIAL_WINDOW = 1, 3, 4

CHUNK = 16 * 1024
"""Bytes of one frame at most."""

INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"

# RFC 7541, appendix B: symbols of 5, 6, 7 and 8 bits, in the order of their codes; enough for statuses and their texts.
_CODES = ("012aceiost", " %-./3456789=A_bdfghlmnpru", ":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz", "&*,;XZ")


@dataclass(frozen=True)
class Frame:
    kind: int
    flags: int
    stream: int
    payload: bytes


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def message(payload: bytes, *, compressed: bool = False) -> bytes:
    """A gRPC message behind its prefix."""
    return struct.pack(">?I", compressed, len(payload)) + payload


def block(headers: Mapping[str, str]) -> bytes:
    """Headers as literals that no table keeps."""
    return b"".join(b"\0" + _text(name) + _text(value) for name, value in headers.items())


def _text(value: str) -> bytes:
    raw, size = value.encode(), len(value.encode())
    if size < 127:
        return bytes((size,)) + raw
    size, written = size - 127, bytearray(b"\x7f")
    while size >= 128:
        written.append(size % 128 + 128)
        size //= 128
    return bytes((*written, size)) + raw


def headers_of(payload: bytes) -> dict[str, str]:
    """The literal headers of a block that was written without a table."""
    found, at = {}, 0
    while at < len(payload):
        first = payload[at]
        if first & 0x80 or first & 0xe0 == 0x20:
            _, at = _integer(payload, at, 7 if first & 0x80 else 5)
            continue
        index, at = _integer(payload, at, 6 if first & 0x40 else 4)
        name = ""
        if not index:
            name, at = _read(payload, at)
        value, at = _read(payload, at)
        found[name or f"static-{index}"] = value
    return found


def _integer(payload: bytes, at: int, bits: int) -> tuple[int, int]:
    value, limit, shift = payload[at] & (2**bits - 1), 2**bits - 1, 0
    at += 1
    if value == limit:
        while True:
            value += (payload[at] & 0x7f) << shift
            shift, at = shift + 7, at + 1
            if not payload[at - 1] & 0x80:
                break
    return value, at


def _read(payload: bytes, at: int) -> tuple[str, int]:
    packed = payload[at] & 0x80
    size, at = _integer(payload, at, 7)
    raw = payload[at:at + size]
    return (_unpacked(raw) if packed else raw.decode("latin-1")), at + size


def _unpacked(raw: bytes) -> str:
    table, code = {}, 0
    for bits, symbols in enumerate(_CODES, 5):
        for symbol in symbols:
            table[f"{code:0{bits}b}"] = symbol
            code += 1
        code *= 2
    text, left = "", "".join(f"{byte:08b}" for byte in raw)
    while left:
        found = next((left[:size] for size in range(5, 9) if left[:size] in table), None)
        if found is None:
            break
        text, left = text + table[found], left[len(found):]
    return text


class Peer:
    """One connection. Frames that came are in `frames`; `open` until the other side closes it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.frames: list[Frame] = []
        self.open = True
        self._came = asyncio.Condition()
        self._reading = asyncio.ensure_future(self._read(reader))
        self._next = -1
        self._sent: Counter[int] = Counter()

    def send(self, *frames: bytes) -> None:
        self.writer.write(b"".join(frames))

    def begin(self, settings: Mapping[int, int] | None = None) -> None:
        """The preface; this peer keeps no header table."""
        given = {TABLE_SIZE: 0, **(settings or {})}
        self.send(PREFACE, frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *one) for one in given.items())))

    def call(self, key: str, body: bytes = b"", *, path: str = INFER, end: bool = True,
             **metadata: str) -> int:
        """Begin a call; its stream. Underscores in names of metadata stand for hyphens."""
        self._next += 2
        named = {name.replace("_", "-"): value for name, value in metadata.items()}
        headers = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "x", "te": "trailers",
                   "content-type": "application/grpc", "authorization": key, **named}
        self.send(frame(HEADERS, END_HEADERS | (END_STREAM if end and not body else 0), self._next, block(headers)))
        if body:
            self.data(self._next, body, end=end)
        return self._next

    def data(self, stream: int, body: bytes, *, end: bool = False) -> None:
        self.send(frame(DATA, END_STREAM if end else 0, stream, body))
        # Stream 0 stands for the connection.
        self._sent.update({stream: len(body), 0: len(body)})

    async def fill(self, stream: int, size: int) -> None:
        """Send so many bytes of a call, as fast as the other side takes them."""
        while size:
            part = min(CHUNK, size)
            await self.until(partial(self._has_room, stream, part), f"room for {part} bytes of call {stream}")
            while part and self._has_room(stream, part):
                self.data(stream, bytes(part))
                size -= part
                part = min(CHUNK, size)

    def abort(self) -> None:
        """Break the connection off as a crash does."""
        self.writer.transport.abort()

    async def until(self, probe: Callable[[], bool], what: str, timeout_s: float = 30) -> None:
        """Wait until what came, or the end of the connection, makes it so."""
        async with self._came:
            try:
                await asyncio.wait_for(self._came.wait_for(probe), timeout_s)
            except TimeoutError:
                raise AssertionError(f"waited for {what}; came: {self.frames[-20:]}, open: {self.open}") from None

    async def closed(self) -> None:
        await self.until(lambda: not self.open, "the end of the connection")

    async def status(self, stream: int) -> str:
        """`grpc-status` of a call, or how it was reset, or `closed`."""
        await self.until(lambda: self._ended(stream) is not None or not self.open, f"the end of call {stream}")
        return self._ended(stream) or "closed"

    async def received(self, stream: int, count: int) -> None:
        """Wait until so many bytes of a call's answer have come."""
        await self.until(lambda: len(self.body(stream)) >= count, f"{count} bytes of call {stream}")

    def trailers(self, stream: int) -> dict[str, str]:
        return {name: value for one in self.frames if one.kind == HEADERS and one.stream == stream
                for name, value in headers_of(one.payload).items()}

    def body(self, stream: int) -> bytes:
        return b"".join(one.payload for one in self.frames if one.kind == DATA and one.stream == stream)

    def settings(self) -> dict[int, int]:
        first = next(one for one in self.frames if one.kind == SETTINGS and not one.flags & ACK)
        return dict(struct.iter_unpack(">HI", first.payload))

    def _has_room(self, stream: int, size: int) -> bool:
        windows = {0: 65_535, stream: self.settings()[INITIAL_WINDOW]}
        for one in self.frames:
            if one.kind == WINDOW_UPDATE and one.stream in windows:
                windows[one.stream] += int.from_bytes(one.payload, "big")
        return all(window - self._sent[number] >= size for number, window in windows.items())

    def _ended(self, stream: int) -> str | None:
        for one in self.frames:
            if one.stream == stream and one.kind == HEADERS and one.flags & END_STREAM:
                return headers_of(one.payload).get("grpc-status", "none")
            if one.stream == stream and one.kind == RST_STREAM:
                return f"reset {struct.unpack('>I', one.payload)[0]}"
        return None

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                head = await reader.readexactly(9)
                payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
                found = Frame(head[3], head[4], int.from_bytes(head[5:], "big") & 0x7fffffff, payload)
                if found.kind == SETTINGS and not found.flags & ACK:
                    self.send(frame(SETTINGS, ACK, 0))
                if found.kind == PING and not found.flags & ACK:
                    self.send(frame(PING, ACK, 0, payload))
                async with self._came:
                    self.frames.append(found)
                    self._came.notify_all()
        except (OSError, EOFError):
            async with self._came:
                self.open = False
                self._came.notify_all()

    async def close(self) -> None:
        self._reading.cancel()
        self.writer.close()
        with suppress(asyncio.CancelledError, OSError):
            await self._reading
        with suppress(OSError):
            await self.writer.wait_closed()


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[Peer]:
    """A connection that has sent nothing yet."""
    host, _, port = address.rpartition(":")
    peer = Peer(*await asyncio.open_connection(host, int(port)))
    try:
        yield peer
    finally:
        await peer.close()


@asynccontextmanager
async def speaking(address: str, settings: Mapping[int, int] | None = None) -> AsyncIterator[Peer]:
    """A connection that speaks HTTP/2."""
    async with connected(address) as peer:
        peer.begin(settings)
        yield peer
