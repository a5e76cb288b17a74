"""A record that cannot be read is one dead letter, though two groups of the actuator read it."""

import asyncio
from pathlib import Path

import pytest

from deploy.actuator.app import _backups
from deploy.actuator.settings import ActuatorSettings
from lepton.bus.memory import MemoryBroker
from lepton.bus.producer import Producer
from lepton.bus.records import Outgoing, Place, TopicPlan
from lepton.contracts import topics
from lepton.contracts.topics import Topic
from lepton.runtime.service import Service
from lepton.store.memory import MemoryDatabase
from tests.harness.bus import committed, read_all


async def test_who_restores_backups_passes_it_over_and_leaves_the_letter_to_who_restarts(
        tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    broker, name = MemoryBroker(), topics.name(Topic.RECOVERY_COMMANDS)
    await broker.create_topics([TopicPlan(*plan) for plan in topics.plans()])
    (tmp_path / "trust").mkdir()
    settings = ActuatorSettings(state_dir=tmp_path / "state", trust_dir=tmp_path / "trust", drain_s=4.0)
    service = Service("actuator", settings)
    _backups(service, settings, broker, Producer(broker, "actuator", service.telemetry), MemoryDatabase())
    await broker.writer("test").send(Outgoing(name, b"\xff\xff", b"instance:gateway"))
    running = asyncio.ensure_future(service.run())
    try:
        await committed(broker, "actuator-backups", {Place(name, 0): 1})
    finally:
        service.request_stop()
        await running
    assert await read_all(broker, topics.dead_letter_name(name)) == []
    assert "refused_record" in caplog.text
