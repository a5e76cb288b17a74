"""A batch stage in processes that are killed, frozen and replaced: every numbered record counts exactly once."""

import random
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from lepton.bus import kafka
from lepton.bus.records import Broker, Outgoing, TopicPlan
from lepton.clock import SystemClock
from lepton.runtime.settings import BrokerOptions
from tests.harness.bus import read_all
from tests.harness.wait import apoll_until

pytestmark = [pytest.mark.kafka, pytest.mark.process]

PARTITIONS = 4
REPOSITORY = Path(__file__).resolve().parents[2]


class Run:
    """Topics of one run, and processes over them."""

    def __init__(self, broker: Broker, bootstrap: str) -> None:
        self.broker = broker
        self.bootstrap = bootstrap
        self.group = f"chaos-{uuid.uuid4().hex[:8]}"
        self.source, self.output, self.state = (f"{self.group}-{stem}" for stem in ("in", "out", "state"))
        self.processes: list[subprocess.Popen[bytes]] = []
        self.written = 0

    async def create(self) -> None:
        await self.broker.create_topics([
            TopicPlan(self.source, PARTITIONS, {}), TopicPlan(self.output, PARTITIONS, {}),
            TopicPlan(self.state, PARTITIONS, {"cleanup.policy": "compact"})])

    def process(self, client_id: str = "one") -> subprocess.Popen[bytes]:
        started = subprocess.Popen([sys.executable, "-m", "tests.chaos.bus_child", self.bootstrap, self.group,
                                    client_id, self.source, self.output, self.state], cwd=REPOSITORY,
                                   stderr=subprocess.DEVNULL)
        self.processes.append(started)
        return started

    async def write(self, count: int) -> None:
        writer = self.broker.writer("chaos")
        await writer.start()
        await writer.send_all([Outgoing(self.source, b"%d" % number, partition=number % PARTITIONS)
                               for number in range(self.written, self.written + count)])
        await writer.stop()
        self.written += count

    async def committed(self) -> int:
        return sum((await self.broker.group_offsets(self.group)).values())

    async def wait_for(self, count: int, timeout_s: float = 60) -> None:
        async def done() -> bool:
            return await self.committed() >= count

        await apoll_until(done, f"{count} records committed", timeout_s)

    async def check(self) -> None:
        outputs = [(record.partition, int(record.value or b"")) for record in await read_all(self.broker, self.output)]
        numbers = [number for _, number in outputs]
        lost = set(range(self.written)) - set(numbers)
        assert not lost, f"{len(lost)} lost, the first {min(lost)}"
        assert len(numbers) == self.written, f"{len(numbers) - self.written} doubled"
        latest = {record.partition: record.value for record in await read_all(self.broker, self.state)}
        for partition in range(PARTITIONS):
            mine = [number for part, number in outputs if part == partition]
            assert mine == sorted(mine), "order kept"
            assert latest[partition] == b"%d %d" % (sum(mine), len(mine)), "state agrees with the output"


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
async def run(kafka_bootstrap: str, processes: list[subprocess.Popen[bytes]]) -> AsyncIterator[Run]:
    broker = kafka.connect(BrokerOptions(bootstrap=kafka_bootstrap, client_id="chaos"))
    made = Run(broker, kafka_bootstrap)
    made.processes = processes
    await made.create()
    yield made
    await broker.delete_topics([made.source, made.output, made.state])
    await broker.close()


@pytest.mark.parametrize("seed", [1, 2])
async def test_kill_9_at_random_moments_loses_and_doubles_nothing(run: Run, seed: int) -> None:
    chance = random.Random(seed)
    process = run.process()
    for _ in range(4):
        before = await run.committed()
        await run.write(3000)
        await run.wait_for(before + chance.randrange(1, 3000))
        process.kill()
        process.wait()
        process = run.process()
    await run.wait_for(run.written)
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 0
    await run.check()


async def test_a_killed_only_member_works_again_within_three_seconds_of_its_start(run: Run) -> None:
    process = run.process()
    await run.write(100)
    await run.wait_for(100)
    process.kill()
    process.wait()
    await run.write(100)
    clock = SystemClock()
    started = clock.monotonic()
    run.process()
    await run.wait_for(200)
    # Starting Python and its imports is part of the figure.
    assert clock.monotonic() - started < 6.0


async def test_a_frozen_owner_that_wakes_writes_nothing_any_more(run: Run) -> None:
    frozen = run.process("one")
    await run.write(1000)
    await run.wait_for(500)
    frozen.send_signal(signal.SIGSTOP)
    other = run.process("two")
    await run.write(2000)
    await run.wait_for(3000, 90)
    frozen.send_signal(signal.SIGCONT)
    await run.write(1000)
    await run.wait_for(4000, 90)
    await run.check()
    for process in (frozen, other):
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
