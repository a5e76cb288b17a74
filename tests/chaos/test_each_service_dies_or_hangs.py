"""Each of the five services killed and frozen, from outside, while numbered events flow: none lost, none doubled."""

import asyncio
import contextlib
import signal
import time
import uuid
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from google.protobuf.message import DecodeError

from lepton.contracts.pb import recovery_pb2
from tests.harness.ledger import Tail, ids_of_features, ids_of_prediction, numbered_events, numbered_posts, order_kept
from tests.harness.records import raw_records
from tests.harness.stack import LocalStack
from tests.harness.wait import apoll_until

pytestmark = [pytest.mark.kafka, pytest.mark.mongo, pytest.mark.process, pytest.mark.timeout(240)]

PER_S = 100.0
ENTITIES = 50
HEALED_BY_COMMAND = ("ingest", "trainer", "predictor-0", "gateway")
BACK_WITHIN_S = 10.0


@dataclass(frozen=True)
class Fault:
    """A signal, and how long numbered events flow around it."""

    name: str
    signal: signal.Signals
    frozen_s: float
    events: int


KILL = Fault("killed", signal.SIGKILL, 0.0, 1000)
FREEZE = Fault("frozen", signal.SIGSTOP, 20.0, 2600)
POSTED_SHARE = 0.2
"""Of the rate, where each event is a request of its own that waits for its acknowledgement."""


async def back_after(stack: LocalStack, victim: str, old_pid: int, timeout_s: float) -> float:
    """Seconds until another process of that name says it is ready."""
    started = time.monotonic()

    async def ready_again() -> bool:
        pid = stack.pid(victim)
        return pid not in (None, old_pid) and await is_ready(stack, victim)

    await apoll_until(ready_again, f"{victim} to be ready again", timeout_s)
    return time.monotonic() - started


async def is_ready(stack: LocalStack, victim: str) -> bool:
    async with httpx.AsyncClient(timeout=1) as client:
        with contextlib.suppress(httpx.HTTPError):
            return (await client.get(f"{stack.admin(victim)}/readyz")).status_code == 200
    return False


async def healing_incident(stack: LocalStack, victim: str, since: float) -> dict[str, Any]:
    """The verified incident about `victim` that was opened after `since` (seconds since the epoch)."""

    async def verified() -> dict[str, Any] | None:
        for incident in await stack.get("/v1/incidents"):
            if (incident["target"] == f"instance:{victim}" and incident["state"] == "VERIFIED"
                    and stack.seconds(incident["opened_at"]) >= since - 1):
                return dict(incident)
        return None

    found = await apoll_until(verified, f"a verified incident about {victim}", 40)
    assert found is not None
    return found


async def inject(stack: LocalStack, victim: str, fault: Fault) -> tuple[float, dict[str, Any] | None]:
    """Strike, wait for recovery; returns seconds until ready again and the incident, where a command must heal."""
    await asyncio.sleep(2.0)
    struck_at, old_pid = time.time(), stack.kill(victim, fault.signal)
    thaw = asyncio.create_task(thaw_later(stack, old_pid, fault.frozen_s)) if fault.frozen_s else None
    # Of the watchdog, the actuator sees that it hangs and the process manager that it died.
    back_s = await back_after(stack, victim, old_pid, 30)
    incident = await healing_incident(stack, victim, struck_at) if victim in HEALED_BY_COMMAND else None
    if thaw:
        await thaw
        await apoll_until(lambda: is_ready(stack, victim), f"{victim} to be ready", 30)
    return back_s, incident


async def thaw_later(stack: LocalStack, pid: int, after_s: float) -> None:
    await asyncio.sleep(after_s)
    stack.signal_pid(pid, signal.SIGCONT)


async def send_numbered(stack: LocalStack, victim: str, prefix: str, count: int) -> list[str]:
    """Events to Kafka; where the gateway is the victim, through the gateway, by a client that retries."""
    if victim != "gateway":
        return await numbered_events(stack.kafka, "phishing", prefix, count, PER_S, ENTITIES)
    async with stack.rest_client() as rest:
        return await numbered_posts(rest, "phishing", prefix, count, PER_S * POSTED_SHARE, ENTITIES)


async def commands_done(stack: LocalStack) -> set[str]:
    """Ids of the commands reported done; what does not parse is what other tests sent to be refused."""
    found = set()
    for record in await raw_records(stack.kafka, "lepton-recovery-results"):
        with contextlib.suppress(DecodeError):
            result = recovery_pb2.RecoveryResult.FromString(record.value)
            if result.outcome == recovery_pb2.RECOVERY_OUTCOME_DONE:
                found.add(result.command_id)
    return found


@pytest.mark.parametrize("fault", [KILL, FREEZE], ids=lambda fault: fault.name)
@pytest.mark.parametrize("victim", [*HEALED_BY_COMMAND, "watchdog"])
async def test_nothing_is_lost_or_doubled_and_the_service_comes_back(
        trained_stack: LocalStack, victim: str, fault: Fault) -> None:
    stack = trained_stack
    prefix = f"n-{victim}-{fault.name}-{uuid.uuid4().hex[:6]}-"
    count = int(fault.events * POSTED_SHARE) if victim == "gateway" else fault.events
    async with (Tail(stack.kafka, "lepton-features-phishing", ids_of_features, prefix) as features,
                Tail(stack.kafka, "lepton-predictions-phishing", ids_of_prediction, prefix) as predictions):
        sending = asyncio.create_task(send_numbered(stack, victim, prefix, count))
        back_s, incident = await inject(stack, victim, fault)
        ids = await sending

        async def all_arrived() -> bool:
            await asyncio.gather(features.read(), predictions.read())
            return not features.missing(ids) and not predictions.missing(ids)

        await apoll_until(all_arrived, "every numbered event in features and predictions", 60)
        # One more read: what was doubled would come now.
        await asyncio.gather(features.read(), predictions.read())

    assert len(ids) == count
    assert not features.doubled(), "an event was accepted twice"
    assert not predictions.doubled(), "an event was predicted twice"
    assert order_kept(features, ENTITIES), "the order of an entity's events was lost"
    assert await stack.segment_counts("phishing", prefix, expected=len(ids)) == dict.fromkeys(ids, 1)
    if incident is not None:
        assert back_s <= BACK_WITHIN_S, f"{victim} took {back_s:.1f} s"
        assert await commands_done(stack) & set(incident["command_ids"]), "no command of the incident was reported done"
