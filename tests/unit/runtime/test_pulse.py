import asyncio
import resource
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from lepton.clock import FakeClock
from lepton.contracts import names
from lepton.contracts.pb import telemetry_pb2
from lepton.errors import Unavailable
from lepton.runtime.health import Health
from lepton.runtime.resources.reading import Resources, memory_limit
from lepton.runtime.settings import LeptonSettings
from lepton.runtime.telemetry import Telemetry


class Bus:
    """Keeps what was sent; refuses while `away`."""

    def __init__(self) -> None:
        self.away = False
        self.beats: list[telemetry_pb2.Telemetry] = []
        self.instances: list[telemetry_pb2.Instance | None] = []

    async def send(self, beat: telemetry_pb2.Telemetry) -> None:
        if self.away:
            raise Unavailable("no broker answers")
        self.beats.append(beat)

    async def announce(self, instance: telemetry_pb2.Instance | None) -> None:
        if self.away:
            raise Unavailable("no broker answers")
        copy = None
        if instance is not None:
            copy = telemetry_pb2.Instance()
            copy.CopyFrom(instance)
        self.instances.append(copy)


def observed(clock: FakeClock) -> tuple[Telemetry, Health]:
    health = Health(clock)
    health.enter(telemetry_pb2.INSTANCE_STATE_READY)
    settings = LeptonSettings(instance="kiln-0", heartbeat_interval_s=0.5)
    return Telemetry("kiln", "kiln-0", settings, clock, health), health


async def finish(stop: asyncio.Event, loop: "asyncio.Task[None]") -> None:
    stop.set()
    await loop


async def test_a_heartbeat_goes_out_each_interval_and_the_last_one_says_stopped() -> None:
    clock, bus, stop = FakeClock(), Bus(), asyncio.Event()
    telemetry, _ = observed(clock)
    loop = asyncio.ensure_future(telemetry.heartbeat_loop(stop, bus.send))
    await clock.advance(0)
    for _ in range(3):
        await clock.advance(0.5)
    assert [beat.sequence for beat in bus.beats] == [1, 2, 3]
    assert {(beat.instance, beat.boot_id, beat.state) for beat in bus.beats} == {
        ("kiln-0", telemetry.boot_id, telemetry_pb2.INSTANCE_STATE_READY)}
    assert {one.name for one in bus.beats[0].measurements} == {
        "process_cpu_share", "process_rss_bytes", "process_memory_share", "process_files_share", "host_cpu_share",
        "host_memory_share", "host_disk_share"}
    assert all(0 <= one.value <= 1 for one in bus.beats[0].measurements if one.name.startswith("host_"))
    await finish(stop, loop)
    assert bus.beats[-1].state == telemetry_pb2.INSTANCE_STATE_STOPPED


async def test_measurements_and_errors_ride_in_the_next_heartbeat_only() -> None:
    clock, bus, stop = FakeClock(), Bus(), asyncio.Event()
    telemetry, health = observed(clock)
    telemetry.measure("queue_rows", 5, pipeline="phishing")
    telemetry.measure("queue_rows", 7, pipeline="phishing")
    telemetry.error("decode", "not JSON", "lepton-events-phishing/0@17")
    telemetry.error("decode", "not JSON either", "lepton-events-phishing/0@17")
    health.set_condition("champion", False, "no model yet")
    loop = asyncio.ensure_future(telemetry.heartbeat_loop(stop, bus.send))
    await clock.advance(0)
    await clock.advance(1.0)
    first, second = bus.beats
    assert [(one.value, dict(one.attributes)) for one in first.measurements if one.name == "queue_rows"] == [
        (7, {"pipeline": "phishing"})]
    assert [(one.kind, one.message, one.count) for one in first.errors] == [("decode", "not JSON either", 2)]
    assert dict(first.failing_checks) == {"champion": "no model yet"}
    assert not second.errors
    assert not [one for one in second.measurements if one.name == "queue_rows"]
    await finish(stop, loop)


async def test_what_could_not_be_sent_rides_in_the_next_heartbeat() -> None:
    clock, bus, stop = FakeClock(), Bus(), asyncio.Event()
    telemetry, _ = observed(clock)
    telemetry.measure("rows", 5)
    telemetry.error("decode", "not JSON")
    bus.away = True
    loop = asyncio.ensure_future(telemetry.heartbeat_loop(stop, bus.send))
    await clock.advance(0)
    await clock.advance(0.5)
    telemetry.error("decode", "not JSON")
    bus.away = False
    await clock.advance(0.5)
    (beat,) = bus.beats
    assert beat.sequence == 2
    assert [one.value for one in beat.measurements if one.name == "rows"] == [5]
    assert [one.count for one in beat.errors] == [2]
    await finish(stop, loop)


async def test_an_instance_is_announced_at_once_on_change_else_every_two_seconds_and_withdrawn_at_the_end() -> None:
    clock, bus, stop = FakeClock(), Bus(), asyncio.Event()
    telemetry, health = observed(clock)
    telemetry.admin_address = "127.0.0.1:9"
    load = 0.0

    def describe(instance: telemetry_pb2.Instance) -> None:
        instance.address = "127.0.0.1:8"
        instance.load = load

    loop = asyncio.ensure_future(telemetry.announce_loop(stop, bus.announce, describe))
    await clock.advance(0)
    load = 3
    for _ in range(3):
        await clock.advance(0.5)
    assert len(bus.instances) == 1, "a changed load alone is no reason to speak"
    await clock.advance(0.5)
    assert len(bus.instances) == 2
    health.set_condition("champion", False)
    await clock.advance(0.5)
    states = [one.state for one in bus.instances if one]
    assert states == [telemetry_pb2.INSTANCE_STATE_READY] * 2 + [telemetry_pb2.INSTANCE_STATE_NOT_READY]
    last = bus.instances[-1]
    assert last is not None
    assert (last.instance, last.address, last.admin_address, last.load) == ("kiln-0", "127.0.0.1:8", "127.0.0.1:9", 3)
    await finish(stop, loop)
    assert bus.instances[-1] is None


async def test_an_announcement_that_failed_is_made_again() -> None:
    clock, bus, stop = FakeClock(), Bus(), asyncio.Event()
    telemetry, _ = observed(clock)
    bus.away = True
    loop = asyncio.ensure_future(telemetry.announce_loop(stop, bus.announce, lambda _: None))
    await clock.advance(0)
    bus.away = False
    await clock.advance(0.5)
    assert len(bus.instances) == 1
    await finish(stop, loop)


async def test_counts_add_up_until_a_heartbeat_was_sent() -> None:
    clock, bus, stop = FakeClock(), Bus(), asyncio.Event()
    telemetry, _ = observed(clock)
    telemetry.count("requests", 5, outcome="ok")
    telemetry.count("requests", 2, outcome="ok")
    bus.away = True
    loop = asyncio.ensure_future(telemetry.heartbeat_loop(stop, bus.send))
    await clock.advance(0)
    await clock.advance(0.5)
    telemetry.count("requests", 1, outcome="ok")
    bus.away = False
    await clock.advance(1.0)
    said = [[one.value for one in beat.measurements if one.name == "requests"] for beat in bus.beats]
    assert said == [[8], []]
    await finish(stop, loop)


def test_the_memory_of_a_container_is_what_it_is_allowed(tmp_path: Path) -> None:
    limit = tmp_path / "memory.max"
    assert memory_limit((limit,), 100) == 100
    limit.write_text("max\n")
    assert memory_limit((limit,), 100) == 100
    limit.write_text("40\n")
    assert memory_limit((limit,), 100) == 40
    limit.write_text("4000\n")
    assert memory_limit((limit,), 100) == 100


NO_HANDLES = """
import os, resource, sys
from pathlib import Path
from lepton.contracts import names
from lepton.runtime.resources.reading import Resources
read = Resources(Path(sys.argv[1]))
list(read.read(0.0))
most = max(os.open("/dev/null", os.O_RDONLY) for _ in range(64))
resource.setrlimit(resource.RLIMIT_NOFILE, (most + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
print([value for name, value, _ in read.read(10.0) if name == names.FILES_SHARE])
"""


def test_a_process_without_a_handle_left_still_says_so(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", NO_HANDLES, str(tmp_path)], capture_output=True, text=True,
                          check=False)
    assert (done.stdout, done.stderr) == ("[1.0]\n", "")


@pytest.mark.parametrize(("which", "what"), [(resource.RLIMIT_DATA, "data"), (resource.RLIMIT_AS, "vms")])
def test_memory_is_a_share_of_what_the_process_itself_may_reserve_too(tmp_path: Path, which: int, what: str) -> None:
    def share() -> float:
        return next(value for name, value, _ in Resources(tmp_path).read(0.0) if name == names.MEMORY_SHARE)

    before = resource.getrlimit(which)
    used = getattr(psutil.Process().memory_info(), what)
    resource.setrlimit(which, (2 * used, before[1]))
    try:
        assert share() == pytest.approx(0.5, rel=0.1)
    finally:
        resource.setrlimit(which, before)
    assert share() < 0.45
