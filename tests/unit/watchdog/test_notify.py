"""People are told once, nothing waits for a slow channel, and no address shows in the log."""

import asyncio
import logging

import pytest

from services.watchdog.edge.notify import MAX_WAITING, Notifier, by_apprise
from tests.harness.wait import apoll_until

# apprise imports a module that Python 3.13 drops; it brings its own for then.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

SECRET = "json://user:hunter2@127.0.0.1:1/path"


async def test_each_address_is_told_once_and_log_is_the_log(caplog: pytest.LogCaptureFixture) -> None:
    told: list[tuple[str, str, str]] = []

    async def send(address: str, title: str, body: str) -> bool:
        told.append((address, title, body))
        return True

    notifier, stop = Notifier(["a://1"], send), asyncio.Event()
    with caplog.at_level(logging.WARNING):
        notifier.tell("silence", "ingest is silent", ["log", "b://2", "a://1"])
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(notifier.run(stop))
        await apoll_until(_length(told, 2), "both addresses")
        stop.set()
    assert told == [("a://1", "silence", "ingest is silent"), ("b://2", "silence", "ingest is silent")]
    assert "ingest is silent" in caplog.text


async def test_an_address_that_cannot_be_told_holds_up_nobody_and_is_not_shown(
        caplog: pytest.LogCaptureFixture) -> None:
    reached: list[str] = []

    async def send(address: str, title: str, body: str) -> bool:
        if address == SECRET:
            raise OSError(f"cannot reach {address}")
        reached.append(address)
        return False

    notifier, stop = Notifier([SECRET, "b://2"], send), asyncio.Event()
    notifier.tell("t", "b", [])
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(notifier.run(stop))
        await apoll_until(_length(reached, 1), "the second address")
        stop.set()
    assert "hunter2" not in caplog.text
    assert "a json address could not be told: OSError" in caplog.text
    assert "a b address did not take the notice" in caplog.text


def test_too_many_notices_are_left_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier(["a://1"])
    for _ in range(MAX_WAITING + 1):
        notifier.tell("t", "b", [])
    assert "one was not sent" in caplog.text


async def test_apprise_brings_a_notice_to_a_webhook() -> None:
    got: list[bytes] = []

    async def door(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))[15:])
        got.append(await reader.readexactly(length))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(door, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert await by_apprise(f"json://127.0.0.1:{port}/", "silence", "ingest is silent")
    assert b"ingest is silent" in got[0]


async def test_apprise_refuses_an_address_it_does_not_know() -> None:
    assert not await by_apprise("nonsense://x", "t", "b")


def _length(items: list, count: int):  # type: ignore[no-untyped-def, type-arg]
    async def enough() -> bool:
        return len(items) >= count

    return enough
