"""Topics for measurements."""

import asyncio
from collections.abc import Iterable
from typing import Any

from lepton.bus import kafka
from lepton.bus.records import TopicPlan
from lepton.runtime.settings import BrokerOptions


def create(bootstrap: str, plans: Iterable[Any]) -> None:
    """Create a pipeline's topics, ready to be written."""
    async def made() -> None:
        broker = kafka.connect(BrokerOptions(bootstrap=bootstrap, client_id="bench"))
        try:
            await broker.create_topics([TopicPlan(*plan) for plan in plans])
        finally:
            await broker.close()

    asyncio.run(made())
