"""The stage on a broker that asks who is there, and on one that goes away."""

import asyncio
import uuid
from pathlib import Path

import pytest
from pydantic import SecretStr

from lepton.bus import kafka
from lepton.runtime.settings import BrokerOptions
from tests.harness.guarded import guarded_kafka
from tests.harness.servers import free_ports, start_kafka
from tests.integration.ingest.rolling.yard import Yard

pytestmark = [pytest.mark.kafka, pytest.mark.process]


async def test_summaries_are_rolled_up_over_tls_with_a_password(tmp_path: Path) -> None:
    with guarded_kafka(tmp_path / "sealed", "right-password", tls=True) as sealed:
        options = BrokerOptions(sealed.bootstrap, "test", "SASL_SSL", "PLAIN", "lepton", SecretStr("right-password"),
                                str(sealed.ca_file))
        yard = Yard(kafka.connect(options), options, uuid.uuid4().hex[:8])
        await yard.furnish()
        await yard.pipeline(yard.name)
        await yard.send(yard.name, 3)
        async with yard.rolling():
            await yard.until_counted(yard.name, 30)
        await yard.close()


async def test_the_stage_waits_for_a_broker_and_goes_on_where_it_stood_when_one_comes_back(tmp_path: Path) -> None:
    ports = free_ports(2)
    options = BrokerOptions(f"127.0.0.1:{ports[0]}", "test")
    yard = Yard(kafka.connect(options), options, uuid.uuid4().hex[:8], {"shop": 1})
    async with yard.rolling() as running:
        server = await asyncio.to_thread(start_kafka, tmp_path / "kafka", ports)
        try:
            await yard.furnish()
            await yard.pipeline(yard.name)
            await yard.send(yard.name, 5)
            await yard.until_counted(yard.name, 50, 120)
            await asyncio.to_thread(server.stop)
            server = await asyncio.to_thread(start_kafka, tmp_path / "kafka", ports)
            await yard.send(yard.name, 5)
            await yard.until_counted(yard.name, 100, 120)
            assert not running.done()
        finally:
            await yard.close()
    server.stop()
