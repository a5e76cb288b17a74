"""The network of a breakable stack as its proxy is told of it: which connections are slow, broken or cut."""

import contextlib
import zlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

from deploy.chaos.plan import EVERY, Disturb
from deploy.local.links import Link
from lepton.errors import Missing, Unavailable

_TOXIC = "lepton-chaos"
_BOTH = ("upstream", "downstream")


@dataclass(frozen=True)
class Network:
    """`proxy` is a client of toxiproxy's own door."""

    links: Sequence[Link]
    proxy: httpx.AsyncClient

    def between(self, source: str, target: str) -> list[Link]:
        """Those of one process, or of every one, to another. Raises Missing where no connection of these is known."""
        found = [one for one in self.links if one.target == target and source in (one.source, EVERY)]
        if not found:
            raise Missing(f"no connection from {source} to {target} can be disturbed", field="between",
                          remedy="`lepton up --breakable`, and names as `lepton status` has them")
        return found

    @asynccontextmanager
    async def disturbed(self, fault: Disturb) -> AsyncIterator[None]:
        """As the fault says while the block runs; raises Missing as `between`, Unavailable when the proxy is away."""
        begun: list[str] = []
        try:
            for link in self.between(*fault.between):
                for stream in _BOTH[1:] if fault.do == "reset" else _BOTH:
                    name = f"{_TOXIC}-{stream}"
                    await self._ask("POST", f"/proxies/{link.name}/toxics", {"name": name, "stream": stream,
                                                                            **_toxic(fault, f"{link.name} {stream}")})
                    begun.append(f"/proxies/{link.name}/toxics/{name}")
            yield
        finally:
            for path in begun:
                with contextlib.suppress(Missing):
                    await self._ask("DELETE", path)

    async def _ask(self, method: str, path: str, body: object = None) -> None:
        try:
            answer = await self.proxy.request(method, path, json=body)
        except httpx.HTTPError as failure:
            raise Unavailable(f"the proxy between the processes does not answer: {failure!r}",
                              remedy="`lepton status` shows whether `network` runs") from failure
        if answer.status_code == httpx.codes.NOT_FOUND:
            raise Missing("the proxy has no such connection", place=path)
        if not answer.is_success:
            raise Unavailable(f"the proxy answered {answer.status_code}: {answer.text.strip()}", place=path)


def _toxic(fault: Disturb, place: str) -> dict[str, object]:
    """The fault in toxiproxy's words; a `timeout` of 0 keeps connections open and lets nothing pass.

    `place` names connection and direction: what one loses says nothing of what another one does.
    """
    match fault.do:
        case "delay":
            return {"type": "latency", "attributes": {"latency": fault.by_ms, "jitter": fault.jitter_ms}}
        case "reset":
            return {"type": "reset_peer", "attributes": {"timeout": fault.by_ms}}
        case "cut":
            return {"type": "timeout", "attributes": {"timeout": 0}}
        case "loss":
            seed = zlib.crc32(f"{fault.seed} {place}".encode())
            return {"type": "loss", "attributes": {"share": fault.share, "seed": seed}}
