"""What every test may use: one real broker and one real database a run, started when the first test asks."""

import os
from collections.abc import Iterator

import pytest

from tests.harness.servers import start_database, start_kafka


@pytest.fixture(scope="session")
def kafka_bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """host:port of a real broker, shared by the run: use topic names of your own.

    `LEPTON_TEST_KAFKA` names one that already runs, for quick turns while writing a test.
    """
    running = os.environ.get("LEPTON_TEST_KAFKA")
    if running:
        yield running
        return
    server = start_kafka(tmp_path_factory.mktemp("kafka"))
    yield server.address
    server.stop()


@pytest.fixture(scope="session")
def mongo_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a real database process, shared by the run: use database names of your own.

    `LEPTON_TEST_MONGO` names one that already runs.
    """
    running = os.environ.get("LEPTON_TEST_MONGO")
    if running:
        yield running
        return
    server = start_database(tmp_path_factory.mktemp("database"))
    yield f"mongodb://{server.address}"
    server.stop()
