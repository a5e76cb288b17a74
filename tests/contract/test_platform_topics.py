"""The platform's topics are created as described, and every way in which a broker differs is said."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from deploy.topics import EXIT_DIFFERENT, EXIT_UNAVAILABLE, EXIT_USAGE, create, differences, platform_plans
from lepton.bus import kafka
from lepton.bus.memory import MemoryBroker
from lepton.bus.records import Broker, TopicPlan
from lepton.contracts import topics
from lepton.contracts.topics import Topic
from lepton.runtime.settings import BrokerOptions
from tests.harness.servers import start_kafka
from tests.harness.wait import apoll_until

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A broker of this module's own: it is asked for all of its topics."""
    server = start_kafka(tmp_path_factory.mktemp("kafka"))
    yield server.address
    server.stop()


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.kafka)])
async def broker(request: pytest.FixtureRequest) -> AsyncIterator[Broker]:
    opened: Broker = MemoryBroker() if request.param == "memory" else kafka.connect(
        BrokerOptions(request.getfixturevalue("bootstrap"), "topics-test"))
    yield opened
    await opened.delete_topics(await opened.list_topics())

    async def gone() -> bool:
        return await opened.list_topics() == []

    await apoll_until(gone, "the topics are gone")
    await opened.close()


async def test_platform_topics_are_created_as_described_and_only_once(broker: Broker) -> None:
    assert sorted(await create(broker, 1)) == sorted(plan.name for plan in platform_plans(1))
    assert await create(broker, 1) == []
    assert await differences(broker, 1) == []


async def test_what_is_absent_is_named(broker: Broker) -> None:
    await broker.create_topics([plan for plan in platform_plans(1) if plan.name != "lepton-models"])
    assert await differences(broker, 1) == ["lepton-models: absent"]


async def test_settings_of_platform_and_pipeline_topics_are_compared(broker: Broker) -> None:
    await create(broker, 1)
    events = topics.name(Topic.EVENTS, "shop")
    config = topics.spec(Topic.EVENTS).config()
    await broker.create_topics([
        TopicPlan(events, 7, {**config, "retention.ms": "1000"}),
        TopicPlan(topics.name(Topic.QUALITY, "shop"), 3, topics.spec(Topic.QUALITY).config()),
        TopicPlan(topics.dead_letter_name(topics.name(Topic.INGEST_STATE, "shop")), 1, {}),
        TopicPlan("somebody-elses", 1, {}),
    ])
    assert await differences(broker, 1) == [
        f"{events}: retention.ms is 1000, 604800000 wanted",
        "lepton-ingest-state-shop-dead-letters: no such topic is described; "
        "lepton-ingest-state-<pipeline> has no dead letters",
        "lepton-quality-shop: 3 partitions, 1 wanted",
    ]


async def test_too_few_replicas_are_told() -> None:
    broker = MemoryBroker()
    await create(broker, 1)
    assert "lepton-audit: 1 replicas, 3 wanted" in await differences(broker, 3)


def command(verb: str, address: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "deploy.topics", verb], cwd=ROOT, capture_output=True, text=True,
                          env={**os.environ, "LEPTON_KAFKA_BOOTSTRAP": address}, check=False, timeout=90)


@pytest.mark.kafka
@pytest.mark.process
def test_the_command_creates_and_checks(bootstrap: str) -> None:
    assert command("check", bootstrap).returncode == EXIT_DIFFERENT
    created = command("create", bootstrap)
    assert created.returncode == 0, created.stderr
    assert "created lepton-pipelines\n" in created.stdout
    assert command("check", bootstrap).stdout == ""


@pytest.mark.process
def test_the_command_says_what_is_wrong() -> None:
    unreachable = command("check", "127.0.0.1:9")
    assert unreachable.returncode == EXIT_UNAVAILABLE
    assert unreachable.stderr.startswith("topics: ") and unreachable.stderr.count("\n") == 1
    assert command("cretae", "127.0.0.1:9").returncode == EXIT_USAGE
