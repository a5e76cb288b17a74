"""The two brokers, and topics that no other test uses."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio

from lepton.bus import kafka
from lepton.bus.memory import MemoryBroker
from lepton.bus.records import Broker, TopicPlan
from lepton.runtime.settings import BrokerOptions

MakeTopic = Callable[..., Awaitable[str]]


@pytest_asyncio.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.kafka)])
async def broker(request: pytest.FixtureRequest) -> AsyncIterator[Broker]:
    opened: Broker
    if request.param == "memory":
        opened = MemoryBroker()
    else:
        bootstrap = request.getfixturevalue("kafka_bootstrap")
        opened = kafka.connect(BrokerOptions(bootstrap=bootstrap, client_id="bus-suite"))
    yield opened
    await opened.close()


@pytest_asyncio.fixture
async def make_topic(broker: Broker) -> AsyncIterator[MakeTopic]:
    """Create a topic with a fresh name and return the name; `config` is given as keyword arguments, `_` for `.`."""
    names: list[str] = []

    async def make(stem: str = "topic", partitions: int = 1, *, name: str | None = None, **config: str) -> str:
        named = name or f"suite-{stem}-{uuid.uuid4().hex[:8]}"
        settings = {key.replace("_", "."): value for key, value in config.items()}
        await broker.create_topics([TopicPlan(named, partitions, settings)])
        names.append(named)
        return named

    yield make
    await broker.delete_topics(names)


@pytest.fixture
def group() -> str:
    return f"suite-{uuid.uuid4().hex[:8]}"
