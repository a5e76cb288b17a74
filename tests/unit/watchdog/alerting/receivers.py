"""Who gets alerts in tests: a web server and a mail server on loopback, over real sockets."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter


@dataclass
class Web:
    """`statuses`: what the next requests are answered with; after them 200."""

    port: int = 0
    statuses: list[int] = field(default_factory=list)
    got: list[tuple[str, bytes]] = field(default_factory=list)
    """Head and body of each request that was answered with 200."""
    asked: list[str] = field(default_factory=list)
    """First line of every request."""

    @property
    def refused(self) -> int:
        return len(self.asked) - len(self.got)

    def documents(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.got]

    async def serve(self, reader: Reader, writer: Writer) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next((line[15:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")), b"0")
        body = await reader.readexactly(int(length))
        self.asked.append(head.decode().partition("\r\n")[0])
        status = self.statuses.pop(0) if self.statuses else 200
        if status == 200:
            self.got.append((head.decode(), body))
        writer.write(f"HTTP/1.1 {status} Said\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()


@dataclass
class Mail:
    """`got`: recipients and text of each mail, as it came over SMTP (RFC 5321)."""

    port: int = 0
    got: list[tuple[list[str], str]] = field(default_factory=list)

    async def serve(self, reader: Reader, writer: Writer) -> None:
        recipients: list[str] = []
        await _say(writer, "220 ready")
        while line := (await reader.readline()).decode().strip():
            match line.split()[0].upper():
                case "EHLO" | "HELO" | "MAIL" | "RSET" | "NOOP":
                    await _say(writer, "250 ok")
                case "RCPT":
                    recipients.append(line)
                    await _say(writer, "250 ok")
                case "DATA":
                    await _say(writer, "354 go on")
                    text = await reader.readuntil(b"\r\n.\r\n")
                    self.got.append((recipients, text.decode()))
                    recipients = []
                    await _say(writer, "250 taken")
                case "QUIT":
                    await _say(writer, "221 bye")
                    break
                case _:
                    await _say(writer, "502 unknown")
        writer.close()


async def _say(writer: Writer, line: str) -> None:
    writer.write(f"{line}\r\n".encode())
    await writer.drain()


@asynccontextmanager
async def web() -> AsyncIterator[Web]:
    made = Web()
    async with _listening(made.serve) as made.port:
        yield made


@asynccontextmanager
async def mail() -> AsyncIterator[Mail]:
    made = Mail()
    async with _listening(made.serve) as made.port:
        yield made


@asynccontextmanager
async def _listening(serve: Callable[[Reader, Writer], Awaitable[None]]) -> AsyncIterator[int]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
