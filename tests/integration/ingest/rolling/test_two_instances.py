"""Two real ingest processes, killed and started again: roll-ups add up to the summaries on the log, each once."""

import asyncio
import os
import signal
import subprocess
import uuid
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from lepton.bus import kafka
from lepton.contracts import codec
from lepton.contracts.pb.quality_pb2 import QualityRollup, QualitySummary
from lepton.contracts.topics import Topic
from lepton.runtime.settings import BrokerOptions
from lepton.store.mongo import Database
from tests.harness.process import service_process
from tests.harness.wait import apoll_until
from tests.unit.ingest.house import House
from tests.unit.ingest.samples import order, pipeline

pytestmark = [pytest.mark.kafka, pytest.mark.mongo, pytest.mark.process]


async def summarised(house: House) -> Counter[str]:
    """Sums of the summaries on the log."""
    found = Counter[str]()
    for record in await house.read(Topic.QUALITY):
        summary = codec.decode_as(Topic.QUALITY, QualitySummary, record.value or b"")
        found.update(accepted=summary.accepted, rejected=summary.rejected, summaries=1)
        found[summary.instance] += 1
    return found


async def rolled_up(house: House, interval: str) -> Counter[str]:
    """Sums of the newest value of every roll-up."""
    newest = {record.key: record.value for record in await house.read(Topic.QUALITY_ROLLUPS)}
    found = Counter[str]()
    for value in newest.values():
        one = codec.decode_as(Topic.QUALITY_ROLLUPS, QualityRollup, value or b"")
        if one.summary.pipeline == house.name and one.interval == interval:
            found.update(accepted=one.summary.accepted, rejected=one.summary.rejected)
    return found


async def test_two_instances_roll_up_exactly_though_each_is_killed(tmp_path: Path, kafka_bootstrap: str,
                                                                  mongo_url: str) -> None:
    name = f"p{uuid.uuid4().hex[:8]}"
    broker = kafka.connect(BrokerOptions(bootstrap=kafka_bootstrap, client_id="test-rollups"))
    database = Database.connect(mongo_url, f"ingest_{name}")
    house = House(tmp_path, broker, database, name)
    await house.furnish()
    environment = {**{key: value for key, value in os.environ.items() if not key.startswith("LEPTON_")},
                   "LEPTON_KAFKA_BOOTSTRAP": kafka_bootstrap, "LEPTON_MONGO_URL": mongo_url,
                   "LEPTON_MONGO_DATABASE": f"ingest_{name}", "LEPTON_TRUST_DIR": str(tmp_path / "trust"),
                   "LEPTON_INGEST_SUMMARY_INTERVAL_S": "0.2", "LEPTON_INGEST_ROLLUP_INTERVAL_S": "0.5"}

    sent = 0

    async def send() -> None:
        nonlocal sent
        for partition in (0, 1):
            await house.send(*(order(sent + number) for number in range(50)), b"no JSON", partition=partition)
            sent += 50

    async def agree() -> bool:
        told = await summarised(house)
        minutes, hours = await rolled_up(house, "1m"), await rolled_up(house, "1h")
        return bool(told["accepted"]) and all(
            (one["accepted"], one["rejected"]) == (told["accepted"], told["rejected"]) for one in (minutes, hours))

    async def accepted_all() -> bool:
        return len(await house.rows()) >= sent

    await house.apply(pipeline(("shop", name)), partitions=2)
    with ExitStack() as alive:
        def start(instance: str) -> "subprocess.Popen[bytes]":
            return alive.enter_context(service_process(
                "services.ingest", {**environment, "LEPTON_INSTANCE": f"{instance}-{name}"}, tmp_path / "ingest.log"))

        instances = {instance: start(instance) for instance in ("first", "second")}
        for instance, victim in list(instances.items()):
            await send()
            await apoll_until(accepted_all, "rows of what was sent", 60, every_s=0.2)
            await apoll_until(agree, "roll-ups that agree with the summaries", 60, every_s=0.3)
            await send()
            victim.send_signal(signal.SIGKILL)
            instances[instance] = start(instance)
            await apoll_until(accepted_all, "rows of what was sent", 60, every_s=0.2)
            await apoll_until(agree, "roll-ups that agree after a kill", 90, every_s=0.3)
        assert {f"first-{name}", f"second-{name}"} <= set(await summarised(house))
        for process in instances.values():
            process.send_signal(signal.SIGTERM)
        for process in instances.values():
            assert await asyncio.to_thread(process.wait, 40) == 0
    # Sketches that outlive the stage are told of at exit, by the hundred lines.
    assert "leaked" not in (tmp_path / "ingest.log").read_text()
    await database.stop()
    await broker.close()
