"""Connections that are delayed, lossy, reset and cut by the real proxy, before a server of the test's own."""

import asyncio
import contextlib
import shutil
import socketserver
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.chaos.network import Network
from deploy.chaos.plan import EVERY, Disturb
from deploy.local.links import Link
from deploy.local.servers import toxiproxy
from lepton.errors import Missing, Unavailable
from tests.harness.servers import free_ports
from tests.harness.wait import poll_until

pytestmark = [
    pytest.mark.timeout(240),  # it is built the first time
    pytest.mark.skipif(shutil.which("go") is None and not toxiproxy.present(),
                       reason="there is no Go to build toxiproxy with")]

BRIEF_S = 0.3


class Echo(socketserver.BaseRequestHandler):
    """Says again what it is told."""

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            while said := self.request.recv(100):
                self.request.sendall(said)


@pytest.fixture
def begun(tmp_path: Path) -> Iterator[tuple[list[Link], int]]:
    """Connections from `ingest` and from `trainer` to `database`, and the port the proxy between is told by."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as echo:
        threading.Thread(target=echo.serve_forever).start()
        door, first, second = free_ports(3)
        links = [Link("ingest", "database", first, echo.server_address[1]),
                 Link("trainer", "database", second, echo.server_address[1])]
        file = toxiproxy.configure(tmp_path / "network.json", {one.name: (one.port, one.listens) for one in links})
        process = subprocess.Popen(toxiproxy.command(file, door), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            poll_until(lambda: toxiproxy.answers(door) and toxiproxy.answers(second), "the proxy", 30)
            yield links, door
        finally:
            process.kill()
            process.wait()
            echo.shutdown()


@pytest.fixture
async def network(begun: tuple[list[Link], int]) -> AsyncIterator[Network]:
    links, door = begun
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{door}", trust_env=False) as client:
        yield Network(links, client)


async def said_again(link: Link, within_s: float) -> bool:
    """Whether a new connection brings back what it is given; raises OSError when it is reset."""
    reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
    try:
        writer.write(b"hello")
        return await asyncio.wait_for(reader.readexactly(5), within_s) == b"hello"
    except TimeoutError:
        return False
    finally:
        writer.close()


def fault(do: str, source: str = "ingest", **more: Any) -> Disturb:
    return Disturb.model_validate({"name": "a", "do": do, "between": (source, "database"), **more})


async def test_a_delay_holds_while_the_fault_does_and_for_nobody_else(network: Network) -> None:
    mine, other = network.links
    async with network.disturbed(fault("delay", by_ms=60_000)):
        assert not await said_again(mine, BRIEF_S)
        assert await said_again(other, 30)
    assert await said_again(mine, 30)


async def test_what_is_lost_comes_later_and_holds_back_what_follows_while_others_lose_nothing(network: Network) -> None:
    mine, other = network.links
    async with network.disturbed(fault("loss", share=0.999)):
        assert not await said_again(mine, BRIEF_S)
        assert await said_again(other, 30)
    said = bytes(range(100))
    async with network.disturbed(fault("loss", share=0.3)):
        reader, writer = await asyncio.open_connection("127.0.0.1", mine.port)
        for one in said:
            writer.write(bytes([one]))
            await writer.drain()
        assert await asyncio.wait_for(reader.readexactly(len(said)), 60) == said
        writer.close()
    assert await said_again(mine, 30)


async def test_what_is_cut_passes_nothing_and_a_reset_ends_the_connection(network: Network) -> None:
    mine, _ = network.links
    async with network.disturbed(fault("cut")):
        assert not await said_again(mine, BRIEF_S)
    async with network.disturbed(fault("reset", by_ms=0)):
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await said_again(mine, 30)
    assert await said_again(mine, 30)


async def test_every_connection_to_a_server_can_be_cut_at_once(network: Network) -> None:
    async with network.disturbed(fault("cut", EVERY)):
        for link in network.links:
            assert not await said_again(link, BRIEF_S)
    for link in network.links:
        assert await said_again(link, 30)


async def test_a_connection_that_is_not_there_is_named_and_so_is_a_proxy_that_is_away(network: Network) -> None:
    with pytest.raises(Missing):
        async with network.disturbed(fault("cut", "actuator")):
            pytest.fail("it was cut")
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{free_ports(1)[0]}") as nobody:
        with pytest.raises(Unavailable):
            async with Network(network.links, nobody).disturbed(fault("cut")):
                pytest.fail("it was cut")
