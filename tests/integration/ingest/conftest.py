"""The place a test's ingest works in."""

import os
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from lepton.bus import kafka
from lepton.contracts.topics import Topic
from lepton.runtime.settings import BrokerOptions
from lepton.store.mongo import Database
from tests.integration.ingest.place import DRAIN_S, Place
from tests.unit.ingest.house import House


@pytest_asyncio.fixture
async def place(tmp_path: Path, kafka_bootstrap: str, mongo_url: str) -> AsyncIterator[Place]:
    name = f"p{uuid.uuid4().hex[:8]}"
    broker = kafka.connect(BrokerOptions(bootstrap=kafka_bootstrap, client_id="test-ingest"))
    database = Database.connect(mongo_url, f"ingest_{name}")
    house = House(tmp_path, broker, database, name)
    await house.furnish()
    environment = {**{key: value for key, value in os.environ.items() if not key.startswith("LEPTON_")},
                   "LEPTON_KAFKA_BOOTSTRAP": kafka_bootstrap, "LEPTON_MONGO_URL": mongo_url,
                   "LEPTON_MONGO_DATABASE": f"ingest_{name}", "LEPTON_TRUST_DIR": str(tmp_path / "trust"),
                   "LEPTON_DRAIN_S": str(DRAIN_S), "LEPTON_LOG_FORMAT": "text"}
    yield Place(house, environment, tmp_path / "ingest.log")
    await house.write(Topic.PIPELINES, None, name)
    await database.stop()
    await broker.close()
