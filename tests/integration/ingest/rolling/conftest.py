"""A yard for each test."""

import uuid
from collections.abc import AsyncIterator

import pytest_asyncio

from lepton.bus import kafka
from lepton.runtime.settings import BrokerOptions
from tests.integration.ingest.rolling.yard import Yard


@pytest_asyncio.fixture
async def yard(kafka_bootstrap: str) -> AsyncIterator[Yard]:
    name = uuid.uuid4().hex[:8]
    options = BrokerOptions(bootstrap=kafka_bootstrap, client_id=f"test-{name}")
    broker = kafka.connect(options)
    yard = Yard(broker, options, name)
    await yard.furnish()
    yield yard
    await yard.close()
