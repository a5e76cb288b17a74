"""Warnings and errors are counted by what they have in common, and what was not sent is counted again."""

import asyncio
import logging
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import TracerProvider

from lepton.clock import FakeClock
from lepton.contracts.pb import telemetry_pb2
from lepton.errors import Unavailable
from lepton.runtime import logs
from lepton.runtime.health import Health
from lepton.runtime.logs import Patterns
from lepton.runtime.settings import LeptonSettings
from lepton.runtime.telemetry import Telemetry

log = logging.getLogger("services.kiln")


@pytest.fixture
def patterns() -> Iterator[Patterns]:
    handler = Patterns()
    log.addHandler(handler)
    yield handler
    log.removeHandler(handler)


def told(patterns: Patterns) -> dict[str, tuple[str, int]]:
    return {one.pattern: (one.level, one.count) for one in patterns.take()}


def test_lines_are_counted_by_template_and_not_by_what_was_filled_in(patterns: Patterns) -> None:
    for place in range(3):
        log.warning("kiln %s is at %d", place, 1000 + place)
    log.error("kiln %s is at %d", 9, 9)
    log.warning(f"partition {place} of 0x7f21 is gone")
    log.info("all is well")
    assert told(patterns) == {"services.kiln: kiln %s is at %d": ("error", 4),
                              "services.kiln: partition # of # is gone": ("warning", 1)}
    assert told(patterns) == {}


def test_exceptions_are_counted_by_type_and_place(patterns: Patterns) -> None:
    known: dict[str, int] = {}
    for key in ("a", "b"):
        try:
            known[key]
        except KeyError:
            log.exception("failed with %s", key)
    ((pattern, counted),) = told(patterns).items()
    assert pattern.startswith("services.kiln: KeyError at test_patterns.py:")
    assert counted == ("error", 2)


def test_the_newest_trace_is_kept(patterns: Patterns) -> None:
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    with tracer.start_as_current_span("fire") as span:
        log.warning("hot")
    log.warning("hot")
    (one,) = patterns.take()
    assert (one.count, one.trace_id) == (2, f"{span.get_span_context().trace_id:032x}")


def test_patterns_beyond_the_limit_are_one(patterns: Patterns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MAX_PATTERNS", 2)
    for letter in "abcd":
        log.warning(f"line {letter}")
    assert told(patterns) == {"services.kiln: line a": ("warning", 1), "services.kiln: line b": ("warning", 1),
                              "others": ("warning", 2)}


async def test_a_heartbeat_carries_them_and_one_that_was_not_sent_leaves_them_to_the_next() -> None:
    clock, sent = FakeClock(), list[telemetry_pb2.Telemetry]()
    telemetry = Telemetry("kiln", "kiln-0", LeptonSettings(instance="kiln-0"), clock, Health(clock))

    async def send(message: telemetry_pb2.Telemetry) -> None:
        sent.append(message)
        if len(sent) == 1:
            raise Unavailable("no broker")

    await telemetry.start()
    telemetry.error("burnt", "too hot at 900")
    telemetry.error("burnt", "too hot at 950")
    stop = asyncio.Event()
    beating = asyncio.ensure_future(telemetry.heartbeat_loop(stop, send))
    while len(sent) < 2:
        await clock.advance(0.5)
    stop.set()
    await beating
    await telemetry.stop()
    first, second = ({one.pattern: one.count for one in message.patterns} for message in sent[:2])
    assert first == {"burnt": 2}
    assert second == {"burnt": 2, "lepton.runtime.pulse: heartbeat not sent: %s": 1}
    assert telemetry.pulse.lines not in logging.getLogger().handlers
