"""The actuator as a process, with real Kafka and a real supervisord that holds tiny processes."""

import asyncio
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx
import psutil
import pytest

from deploy import topics as platform
from deploy.local import processes
from deploy.supervisor import ProcessManager
from lepton.bus import kafka
from lepton.bus.records import Outgoing
from lepton.contracts import codec
from lepton.contracts.pb import recovery_pb2
from lepton.contracts.pb.recovery_pb2 import RecoveryCommand, RecoveryResult
from lepton.contracts.signing import Identity
from lepton.contracts.topics import Topic
from lepton.runtime.settings import BrokerOptions
from tests.harness.servers import free_ports
from tests.harness.wait import apoll_until, poll_until
from tests.unit.actuator.commands import command, issuer

pytestmark = [pytest.mark.kafka, pytest.mark.process]

_SLEEPER = "import signal; signal.pause()"
_DOOR = """
import http.server, sys
class Door(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"instance": "watchdog"}')
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Door).serve_forever()
"""
SCALE = recovery_pb2.RECOVERY_ACTION_SCALE


@dataclass(frozen=True)
class Sleeper:
    """A program that does nothing until it is ended."""

    name: str
    command: tuple[str, ...] = (sys.executable, "-c", _SLEEPER)
    environment: Mapping[str, str] = field(default_factory=dict)
    restarted: bool = False
    stop_s: int = 2


@dataclass
class Bench:
    """A supervisord with sleepers under `home`, and keys for commands."""

    home: Path
    manager: ProcessManager
    watchdog: Identity
    bootstrap: str
    admin_port: int
    door_port: int
    """Of the watchdog that supervisord holds: nothing but a door."""
    more: dict[str, str] = field(default_factory=dict)

    def pid(self, name: str) -> int:
        return self.manager.process(name).pid

    def command(self, **named: object) -> RecoveryCommand:
        named.setdefault("command_id", f"c-{uuid.uuid4().hex}")
        return command(self.watchdog, datetime.now(UTC), **named)  # type: ignore[arg-type] # passed through

    @property
    def environment(self) -> dict[str, str]:
        return {"LEPTON_KAFKA_BOOTSTRAP": self.bootstrap, "LEPTON_ADMIN_PORT": str(self.admin_port),
                "LEPTON_TRUST_DIR": str(self.home / "trust"), "LEPTON_STATE_DIR": str(self.home / "state"),
                "LEPTON_ACTUATOR_SUPERVISOR_SOCKET": str(processes.socket_path(self.home)),
                "LEPTON_ACTUATOR_UNITS": "trainer=1..1,predictor=1..2", "PATH": "/usr/bin:/bin", **self.more}


@pytest.fixture
def bench(tmp_path: Path, kafka_bootstrap: str) -> Iterator[Bench]:
    home = tmp_path
    sleepers = [Sleeper(name) for name in ("trainer", "predictor-0", "predictor-1", "kafka")]
    admin_port, door_port = free_ports(2)
    (home / "door.py").write_text(_DOOR)
    sleepers.append(Sleeper("watchdog", (sys.executable, str(home / "door.py"), str(door_port)), restarted=True))
    shared = {processes.HOME_MARK: str(home), "PATH": "/usr/bin:/bin"}
    processes.write_configuration(home, home, sleepers, shared)
    manager = processes.start_manager(home, shared)
    for name in ("trainer", "predictor-0", "kafka"):
        manager.start(name)
    poll_until(lambda: all(manager.process(name).state == "RUNNING" for name in ("trainer", "predictor-0")), "sleepers")
    watchdog = issuer(home, "watchdog", "watchdog", datetime.now(UTC))
    yield Bench(home, manager, watchdog, kafka_bootstrap, admin_port, door_port)
    manager.shutdown()
    poll_until(lambda: not processes.find_processes(home), "supervisord to end")


@asynccontextmanager
async def actuator(bench: Bench) -> AsyncIterator[asyncio.subprocess.Process]:
    """The real process, ready; ended with SIGTERM, and expected to end well."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "deploy.actuator", env=bench.environment)
    try:
        await apoll_until(lambda: _ready(bench), "the actuator to be ready", 30)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 15) == 0


async def _ready(bench: Bench) -> bool:
    async with httpx.AsyncClient(timeout=1) as client:
        try:
            return (await client.get(f"http://127.0.0.1:{bench.admin_port}/readyz")).status_code == 200
        except httpx.HTTPError:
            return False


@pytest.fixture
async def broker(kafka_bootstrap: str) -> AsyncIterator[kafka.KafkaBroker]:
    cluster = kafka.connect(BrokerOptions(kafka_bootstrap, "test"))
    await platform.create(cluster, 1)
    yield cluster
    await cluster.close()


async def ask(broker: kafka.KafkaBroker, *asked: RecoveryCommand) -> list[RecoveryResult]:
    """Send commands; the result of each, in order."""
    reader = broker.reader([Topic.RECOVERY_RESULTS], group=None, client_id="test", start="latest")
    writer = broker.writer("test")
    await reader.start()
    await writer.start()
    found: list[RecoveryResult] = []
    ids = [each.command_id for each in asked]

    async def answered() -> bool:
        for records in (await reader.poll(max_records=100, timeout_s=0.2)).values():
            for record in records:
                result = codec.decode(Topic.RECOVERY_RESULTS, record.value or b"")
                assert isinstance(result, RecoveryResult)
                found.extend([result] if result.command_id in ids else [])
        return len(found) >= len(asked)

    try:
        for each in asked:
            await writer.send(Outgoing(Topic.RECOVERY_COMMANDS, codec.encode(Topic.RECOVERY_COMMANDS, each),
                                       each.target.encode()))
        await apoll_until(answered, "results", 40)
    finally:
        await writer.stop()
        await reader.stop()
    return found


async def test_a_killed_and_a_frozen_process_are_running_again_after_a_restart(
        bench: Bench, broker: kafka.KafkaBroker) -> None:
    killed, frozen = bench.pid("trainer"), bench.pid("predictor-0")
    async with actuator(bench):
        psutil.Process(killed).kill()
        psutil.Process(frozen).suspend()
        results = await ask(broker, bench.command(target="instance:trainer", grace_s="0"),
                            bench.command(target="instance:predictor-0", grace_s="0"))
    assert {result.outcome for result in results} == {recovery_pb2.RECOVERY_OUTCOME_DONE}
    assert bench.pid("trainer") not in (0, killed)
    assert bench.pid("predictor-0") not in (0, frozen)
    assert not psutil.pid_exists(frozen)


async def test_what_is_not_allowed_is_refused_and_changes_nothing(bench: Bench, broker: kafka.KafkaBroker) -> None:
    before = {name: bench.pid(name) for name in ("trainer", "predictor-0", "predictor-1", "kafka")}
    forged = bench.command(target="instance:trainer", grace_s="0")
    forged.signature = bytes(64)
    async with actuator(bench):
        results = await ask(
            broker, bench.command(target="instance:kafka", grace_s="0"),
            bench.command(action=SCALE, target="service:predictor", replicas="3"),
            bench.command(target="instance:trainer", expires_s=-10), forged)
    assert {result.outcome for result in results} == {recovery_pb2.RECOVERY_OUTCOME_REFUSED}
    assert {name: bench.pid(name) for name in before} == before


async def test_a_replayed_command_has_no_second_effect_even_after_a_restart_of_the_actuator(
        bench: Bench, broker: kafka.KafkaBroker) -> None:
    asked = bench.command(target="instance:trainer", grace_s="0")
    async with actuator(bench):
        first = await ask(broker, asked)
    after = bench.pid("trainer")
    async with actuator(bench):
        assert await ask(broker, asked) == first
    assert bench.pid("trainer") == after


async def test_a_service_is_scaled_up_and_down_within_its_bounds(bench: Bench, broker: kafka.KafkaBroker) -> None:
    async with actuator(bench):
        up = bench.command(action=SCALE, target="service:predictor", replicas="2")
        assert (await ask(broker, up))[0].outcome == recovery_pb2.RECOVERY_OUTCOME_DONE
        assert bench.pid("predictor-1")
        down = bench.command(action=SCALE, target="service:predictor", replicas="1")
        assert (await ask(broker, down))[0].outcome == recovery_pb2.RECOVERY_OUTCOME_DONE
    assert not bench.pid("predictor-1")
    assert bench.pid("predictor-0")


async def test_without_a_process_manager_the_actuator_does_not_start(bench: Bench) -> None:
    environment = {**bench.environment, "LEPTON_ACTUATOR_SUPERVISOR_SOCKET": str(bench.home / "nothing.sock")}
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "deploy.actuator", env=environment,
                                                   stderr=asyncio.subprocess.PIPE)
    _, said = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 3
    assert b"process manager does not answer" in said


async def test_a_watchdog_that_hangs_is_ended_and_the_process_manager_has_it_back(
        bench: Bench, broker: kafka.KafkaBroker) -> None:
    door = f"http://127.0.0.1:{bench.door_port}"
    bench.more = {"LEPTON_ACTUATOR_WATCHED": f"watchdog={door}", "LEPTON_ACTUATOR_HUNG_S": "5"}
    bench.manager.start("watchdog")
    async with actuator(bench):
        log = bench.home / "logs" / "watchdog.log"
        poll_until(lambda: log.read_text().count("GET /readyz") >= 2, "the watchdog to be asked")
        frozen = bench.pid("watchdog")
        psutil.Process(frozen).suspend()
        poll_until(lambda: bench.pid("watchdog") not in (0, frozen), "another watchdog")
        assert not psutil.pid_exists(frozen)
        async with httpx.AsyncClient(timeout=5) as client:
            reported = (await client.get(f"http://127.0.0.1:{bench.admin_port}/metrics")).text
    assert 'kind="hung"' in reported
