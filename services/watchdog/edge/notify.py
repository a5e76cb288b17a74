"""How a person is told: through apprise (mail, chat, webhooks) and in the log. Addresses hold secrets: never logged."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from apprise import Apprise

LOG = "log"
MAX_WAITING = 100
SEND_S = 15.0
POLL_S = 0.5

log = logging.getLogger(__name__)

# Sends title and body to an address; whether it was taken.
Send = Callable[[str, str, str], Awaitable[bool]]


async def by_apprise(address: str, title: str, body: str) -> bool:
    """In a thread: apprise loads a hundred plugins at its first use, and heartbeats must not wait for that."""
    return await asyncio.to_thread(_tell, address, title, body)


def _tell(address: str, title: str, body: str) -> bool:
    channel = Apprise()
    return bool(channel.add(address)) and bool(channel.notify(title=title, body=body))


@dataclass(frozen=True, slots=True)
class Notice:
    title: str
    body: str
    addresses: tuple[str, ...]


class Notifier:
    """Tells each address once. A slow or broken channel holds up nobody; what it could not take is in the log."""

    def __init__(self, always: Sequence[str], send: Send = by_apprise) -> None:
        self._always = tuple(always)
        self._send = send
        self._waiting: asyncio.Queue[Notice] = asyncio.Queue(MAX_WAITING)

    def tell(self, title: str, body: str, addresses: Sequence[str]) -> None:
        """Never waits; when too much waits already, the log is all there is."""
        log.warning("%s: %s", title, body)
        wanted = tuple(dict.fromkeys(one for one in (*self._always, *addresses) if one != LOG))
        if not wanted:
            return
        try:
            self._waiting.put_nowait(Notice(title, body, wanted))
        except asyncio.QueueFull:
            log.error("too many notices wait: one was not sent")

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; what waits then is not sent any more, it is in the log."""
        while not stop.is_set():
            try:
                async with asyncio.timeout(POLL_S):
                    notice = await self._waiting.get()
            except TimeoutError:
                continue
            for address in notice.addresses:
                await self._send_one(notice, address)

    async def _send_one(self, notice: Notice, address: str) -> None:
        scheme = address.partition(":")[0]
        try:
            async with asyncio.timeout(SEND_S):
                taken = await self._send(address, notice.title, notice.body)
        except (TimeoutError, OSError, TypeError) as error:
            # apprise raises TypeError for an address it cannot read.
            log.error("a %s address could not be told: %s", scheme, type(error).__name__)
            return
        if not taken:
            log.error("a %s address did not take the notice", scheme)
