"""Watchdog, actuator, process manager, predictors as processes: overload adds one, too little to do takes it away."""

import json
import os
import sys
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from deploy.local import processes
from deploy.supervisor import ProcessManager
from lepton.bus import kafka
from lepton.contracts.pb import recovery_pb2
from lepton.contracts.pipeline import parse
from lepton.runtime.settings import BrokerOptions
from lepton.store.mongo import Database
from tests.harness.process import ROOT, service_process
from tests.harness.servers import start_kafka
from tests.harness.wait import apoll_until, poll_until
from tests.unit.watchdog.house import House

pytestmark = [pytest.mark.kafka, pytest.mark.mongo, pytest.mark.process]
SHOP = parse("""
apiVersion: lepton/v1
kind: Pipeline
metadata: {name: shop}
events: {partitions: 2, fields: {x: {type: float}}}
serve: {replicas: {min: 1, max: 2}}
""")


@dataclass(frozen=True)
class Replica:
    """A predictor as the process manager is told of it."""

    name: str
    environment: Mapping[str, str]
    command: tuple[str, ...] = (sys.executable, "-m", "tests.integration.watchdog.replica")
    restarted: bool = False
    stop_s: int = 5


@dataclass
class Site:
    """A broker of its own, in which no other test's predictors count; a process manager with two predictors."""

    house: House
    manager: ProcessManager
    environment: dict[str, str]
    log: Path

    def comes(self, requests_per_s: int) -> None:
        draft = self.house.folder / "load.new"
        draft.write_text(str(requests_per_s))
        draft.replace(self.house.folder / "load")

    async def running(self, *names: str) -> None:
        async def found() -> bool:
            return {one.name for one in self.manager.processes() if one.state == "RUNNING"} == set(names)

        await apoll_until(found, f"{names} to run; they said: {self.log.read_text()[-3000:]}", 60)


@pytest_asyncio.fixture
async def site(tmp_path: Path, mongo_url: str) -> AsyncIterator[Site]:
    server = start_kafka(tmp_path / "kafka")
    broker = kafka.connect(BrokerOptions(bootstrap=server.address, client_id="test-scaling"))
    name = f"scaling_{uuid.uuid4().hex[:8]}"
    database = Database.connect(mongo_url, name)
    house = House(tmp_path, broker, database, "shop")
    await house.furnish()
    await house.apply(SHOP)
    bare = {name: value for name, value in os.environ.items() if not name.startswith("LEPTON_")}
    environment = {**bare, "PYTHONPATH": str(ROOT), "LEPTON_KAFKA_BOOTSTRAP": server.address,
                   "LEPTON_HEARTBEAT_INTERVAL_S": "0.25", "LEPTON_LOG_FORMAT": "text",
                   "LEPTON_STATE_DIR": str(tmp_path / "state"), "LEPTON_TRUST_DIR": str(tmp_path / "trust"),
                   "LEPTON_KEYS_DIR": str(tmp_path / "keys"), "LEPTON_MONGO_URL": mongo_url,
                   "LEPTON_MONGO_DATABASE": name}
    shared = {**environment, processes.HOME_MARK: str(tmp_path), "LEPTON_PREDICTOR_FOLDER": str(tmp_path)}
    processes.write_configuration(
        tmp_path, ROOT, [Replica(name, {"LEPTON_INSTANCE": name}) for name in ("predictor-0", "predictor-1")], shared)
    manager = processes.start_manager(tmp_path, shared)
    try:
        yield Site(house, manager, environment, tmp_path / "said.log")
    finally:
        manager.shutdown()
        poll_until(lambda: not processes.find_processes(tmp_path), "the process manager to end")
        await house.leave()
        await database.drop()
        await database.stop()
        await broker.close()
        server.stop()


async def test_an_overload_adds_a_predictor_and_too_little_to_do_takes_it_away(site: Site) -> None:
    watchdog = {"LEPTON_WATCHDOG_REPLICAS": json.dumps({"predictor": [1, 2]}), "LEPTON_WATCHDOG_TICK_S": "0.1",
                "LEPTON_WATCHDOG_LIMITS": json.dumps({"refused_s": 1, "idle_s": 1}), "LEPTON_WATCHDOG_SILENCE_S": "20"}
    actuator = {"LEPTON_ACTUATOR_UNITS": "predictor=1..2",
                "LEPTON_ACTUATOR_SUPERVISOR_SOCKET": str(processes.socket_path(site.house.folder))}
    with ExitStack() as stack:
        for module, own in (("services.watchdog", watchdog), ("deploy.actuator", actuator)):
            stack.enter_context(service_process(module, {**site.environment, **own}, site.log))
        site.comes(130)
        site.manager.start("predictor-0")
        await site.running("predictor-0", "predictor-1")
        site.comes(10)
        healed = await site.house.incident("verified", "overload", 60)
        assert (healed.cause, healed.target) == ("surge:shop", "service:predictor")
        await site.running("predictor-0")
        commands = await site.house.sent(2)
        assert [(one.action, one.target, dict(one.arguments)) for one in commands] == [
            (recovery_pb2.RECOVERY_ACTION_SCALE, "service:predictor", {"replicas": replicas}) for replicas in "21"]
