"""Commands in, results and process changes out, over a process manager in memory."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from deploy.actuator import units
from deploy.actuator.flow import Actuator, Limits
from deploy.actuator.memory import Memory
from deploy.supervisor import Process
from lepton.clock import FakeClock
from lepton.contracts.pb import recovery_pb2
from lepton.contracts.pb.recovery_pb2 import RecoveryCommand, RecoveryResult
from lepton.contracts.signing import Identity
from tests.unit.actuator.commands import command, issuer, trust

DONE = recovery_pb2.RECOVERY_OUTCOME_DONE
REFUSED = recovery_pb2.RECOVERY_OUTCOME_REFUSED
FAILED = recovery_pb2.RECOVERY_OUTCOME_FAILED
SCALE = recovery_pb2.RECOVERY_ACTION_SCALE


class Processes:
    """A process manager whose processes obey at once, but for those told to hang or to fail."""

    def __init__(self) -> None:
        self.pids = {"gateway": 10, "predictor-0": 11, "predictor-1": 0, "kafka": 12}
        self.calls: list[str] = []
        self.hang: set[str] = set()
        self.broken: set[str] = set()
        self.ended: set[str] = set()
        self._next = 100

    def processes(self) -> list[Process]:
        return [self.process(name) for name in self.pids]

    def process(self, name: str) -> Process:
        ended = "EXITED" if name in self.ended else "BACKOFF" if name in self.broken else "STOPPED"
        state = "RUNNING" if self.pids[name] and name not in self.broken else ended
        return Process(name, state, self.pids[name], 0, 0, "")

    def start(self, name: str) -> None:
        self.calls.append(f"start {name}")
        if name not in self.broken:
            self._next += 1
            self.pids[name] = self._next

    def stop(self, name: str, *, wait: bool = True) -> None:
        self.calls.append(f"stop {name}")
        if name not in self.hang:
            self.pids[name] = 0

    def signal(self, name: str, signal_name: str) -> None:
        self.calls.append(f"{signal_name} {name}")
        self.pids[name] = 0


class Bench:
    """An actuator with everything around it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = FakeClock()
        self.processes = Processes()
        self.watchdog = issuer(directory, "watchdog", "watchdog", self.clock.now())
        self.operator = issuer(directory, "operator", "operator", self.clock.now())
        self.trainer = issuer(directory, "trainer", "trainer", self.clock.now())
        self.actuator = self.restarted()

    def restarted(self) -> Actuator:
        """Another actuator process over the same state folder."""
        memory = Memory(self.directory / "state" / "commands.json")
        memory.load()
        limits = Limits(units.parse("gateway=1..1,predictor=1..2"), 10.0, timedelta(seconds=2))
        self.actuator = Actuator("actuator", self.processes, trust(self.directory), memory, limits, self.clock)
        return self.actuator

    async def does(self, asked: RecoveryCommand) -> RecoveryResult:
        """The result, with time moving on while the actuator waits."""
        running = asyncio.ensure_future(self.actuator.execute(asked))
        while not running.done():
            await self.clock.advance(0.05)
            await asyncio.wait({running}, timeout=0.001)
        return running.result()

    def command(self, identity: Identity | None = None, **named: object) -> RecoveryCommand:
        return command(identity or self.watchdog, self.clock.now(), **named)  # type: ignore[arg-type] # passed through


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_a_restart_without_grace_kills_and_starts(bench: Bench) -> None:
    result = await bench.does(bench.command(grace_s="0"))
    assert result.outcome == DONE
    assert bench.processes.calls == ["KILL predictor-0", "start predictor-0"]
    assert (result.command_id, result.incident_id, result.executor) == ("c-1", "i-1", "actuator")
    assert "pid 11 -> 101" in result.evidence


@pytest.mark.parametrize(("pid", "ended", "told"), [(0, True, ["predictor-0"]), (0, False, []), (11, False, [])])
async def test_a_restart_tells_whom_it_found_ended_by_themselves(
        bench: Bench, pid: int, ended: bool, told: list[str]) -> None:
    bench.processes.pids["predictor-0"] = pid
    bench.processes.ended |= {"predictor-0"} if ended else set()
    asked = bench.command(grace_s="0")
    assert list((await bench.does(asked)).found_ended) == told
    bench.restarted()
    assert list((await bench.does(asked)).found_ended) == told


async def test_a_full_disk_does_not_end_it_and_what_it_did_meanwhile_is_written_with_the_next(
        bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    state = bench.directory / "state"
    state.write_text("in the way")
    first = bench.command(grace_s="0")
    result = await bench.does(first)
    assert (result.outcome, await bench.does(first)) == (DONE, result)
    assert bench.processes.calls == ["KILL predictor-0", "start predictor-0"]
    assert "c-1 cannot be kept over a restart" in caplog.text
    state.unlink()
    await bench.does(bench.command(command_id="c-2", grace_s="0"))
    did = list(bench.processes.calls)
    bench.restarted()
    assert (await bench.does(first), bench.processes.calls) == (result, did)


async def test_a_restart_with_grace_stops_in_order_first(bench: Bench) -> None:
    assert (await bench.does(bench.command(grace_s="5"))).outcome == DONE
    assert bench.processes.calls == ["stop predictor-0", "start predictor-0"]


async def test_what_does_not_stop_within_the_grace_is_killed(bench: Bench) -> None:
    bench.processes.hang.add("predictor-0")
    assert (await bench.does(bench.command(grace_s="5"))).outcome == DONE
    assert bench.processes.calls == ["stop predictor-0", "KILL predictor-0", "start predictor-0"]


async def test_a_dead_process_is_started(bench: Bench) -> None:
    bench.processes.pids["predictor-0"] = 0
    assert (await bench.does(bench.command(grace_s="0"))).outcome == DONE
    assert bench.processes.calls == ["start predictor-0"]


async def test_a_process_that_does_not_come_up_is_a_failure_with_its_state(bench: Bench) -> None:
    bench.processes.broken.add("predictor-0")
    result = await bench.does(bench.command(grace_s="0"))
    assert (result.outcome, list(result.found_ended)) == (FAILED, [])
    assert "BACKOFF" in result.evidence
    bench.processes.pids["predictor-0"] = 0
    bench.processes.ended.add("predictor-0")
    result = await bench.does(bench.command(command_id="c-2", grace_s="0"))
    assert (result.outcome, list(result.found_ended)) == (FAILED, ["predictor-0"])


async def test_a_scale_starts_what_is_missing(bench: Bench) -> None:
    result = await bench.does(bench.command(action=SCALE, target="service:predictor", replicas="2"))
    assert result.outcome == DONE
    assert bench.processes.pids["predictor-1"]


@pytest.mark.parametrize(("target", "arguments"), [
    ("instance:kafka", {}), ("instance:nobody", {}), ("service:kafka", {}), ("model:phishing", {}),
    ("instance:predictor-0", {"grace_s": "soon"}), ("instance:predictor-0", {"grace_s": "-1"}),
    ("instance:predictor-0", {"grace_s": "nan"}),
])
async def test_what_may_not_be_restarted_is_refused(bench: Bench, target: str, arguments: dict[str, str]) -> None:
    result = await bench.does(bench.command(None, target=target, **arguments))
    assert result.outcome == REFUSED
    assert not bench.processes.calls


@pytest.mark.parametrize("replicas", ["0", "3", "1.5", "many", ""])
async def test_a_scale_outside_of_the_bounds_is_refused(bench: Bench, replicas: str) -> None:
    result = await bench.does(bench.command(action=SCALE, target="service:predictor", replicas=replicas))
    assert result.outcome == REFUSED
    assert not bench.processes.calls


async def test_the_same_command_again_has_the_same_result_and_no_second_effect(bench: Bench) -> None:
    asked = bench.command(grace_s="0")
    first = await bench.does(asked)
    assert await bench.does(asked) == first
    bench.restarted()
    assert await bench.does(asked) == first
    assert bench.processes.calls == ["KILL predictor-0", "start predictor-0"]


async def test_an_expired_command_is_refused(bench: Bench) -> None:
    asked = bench.command(expires_s=5)
    await bench.clock.advance(8)
    result = await bench.does(asked)
    assert (result.outcome, bench.processes.calls) == (REFUSED, [])
    assert "expires_at" in result.evidence


async def test_a_command_replayed_after_it_was_forgotten_is_refused_as_expired(bench: Bench) -> None:
    asked = bench.command(expires_s=5, grace_s="0")
    await bench.does(asked)
    await bench.clock.advance(60)
    await bench.does(bench.command(command_id="c-2", grace_s="0"))
    bench.processes.calls.clear()
    assert (await bench.does(asked)).outcome == REFUSED
    assert not bench.processes.calls


async def test_another_command_with_a_used_id_is_refused(bench: Bench) -> None:
    await bench.does(bench.command(grace_s="0"))
    assert (await bench.does(bench.command(target="instance:gateway"))).outcome == REFUSED


async def test_a_command_that_was_changed_after_signing_is_refused(bench: Bench) -> None:
    asked = bench.command()
    asked.target = "instance:gateway"
    result = await bench.does(asked)
    assert (result.outcome, bench.processes.calls) == (REFUSED, [])
    assert "signature" in result.evidence


async def test_a_key_of_another_role_is_refused(bench: Bench) -> None:
    result = await bench.does(bench.command(bench.trainer))
    assert result.outcome == REFUSED
    assert "may not act" in result.evidence


async def test_a_key_nobody_trusts_is_refused(bench: Bench, tmp_path: Path) -> None:
    stranger = Identity.create(tmp_path / "elsewhere", "stranger")
    result = await bench.does(bench.command(stranger))
    assert result.outcome == REFUSED
    assert "not trusted" in result.evidence


async def test_an_operator_is_obeyed_without_a_lease(bench: Bench) -> None:
    await bench.does(bench.command(fence=7, grace_s="0"))
    result = await bench.does(bench.command(bench.operator, command_id="c-2", fence=0, grace_s="0"))
    assert result.outcome == DONE


async def test_a_watchdog_that_lost_its_lease_is_refused(bench: Bench) -> None:
    await bench.does(bench.command(fence=7, grace_s="0"))
    bench.restarted()
    result = await bench.does(bench.command(command_id="c-2", fence=6))
    assert result.outcome == REFUSED
    assert "fence" in result.evidence


async def test_a_command_from_the_future_is_refused(bench: Bench) -> None:
    asked = command(bench.watchdog, bench.clock.now() + timedelta(seconds=30))
    assert (await bench.does(asked)).outcome == REFUSED


async def test_a_command_that_is_good_for_too_long_is_refused(bench: Bench) -> None:
    assert (await bench.does(bench.command(expires_s=3600))).outcome == REFUSED


async def test_a_damaged_memory_is_put_aside(bench: Bench) -> None:
    await bench.does(bench.command(grace_s="0"))
    kept = bench.directory / "state" / "commands.json"
    kept.write_text("{")
    bench.restarted()
    assert kept.with_suffix(".unreadable").exists()
    assert (await bench.does(bench.command(command_id="c-2", grace_s="0"))).outcome == DONE


async def test_only_restart_and_scale_concern_the_actuator(bench: Bench) -> None:
    mine = {action for action in recovery_pb2.RecoveryAction.values()
            if bench.actuator.concerns(bench.command(action=action))}
    assert mine == {recovery_pb2.RECOVERY_ACTION_RESTART, SCALE}
