"""Which way a notice takes by the scheme of its address: apprise for people, Alertmanager's webhook for programs."""

import asyncio

from apprise import Apprise

from services.watchdog.edge.alerting import webhook
from services.watchdog.edge.alerting.discretion import discreet
from services.watchdog.flow.telling import Notice


async def send(address: str, notice: Notice) -> bool:
    """Whether it was taken; in a thread: apprise loads a hundred plugins at its first use, heartbeats must not wait.

    Raises OSError when it cannot be reached, ValueError or TypeError for an address that cannot be read.
    """
    with discreet(address):
        if address.startswith(webhook.SCHEMES):
            return await asyncio.to_thread(webhook.post, address, notice.document)
        return await asyncio.to_thread(_by_apprise, address, notice.title, notice.body)


def _by_apprise(address: str, title: str, body: str) -> bool:
    channel = Apprise()
    return bool(channel.add(address)) and bool(channel.notify(title=title, body=body))
