"""What of a heartbeat reaches the core: figures that changed, failures, and limits that are known."""

import pytest
from pydantic import ValidationError

from lepton.clock import FakeClock
from lepton.contracts.pb.telemetry_pb2 import ErrorReport, Measurement, Telemetry
from services.watchdog.core.inputs import AnyInput, Beat, Failures, Figures
from services.watchdog.flow.observing import SAY_ALL_S, Observing
from services.watchdog.settings import WatchdogSettings


def beat(cpu: float, lag: int, boot_id: str = "b1", errors: tuple[ErrorReport, ...] = ()) -> Telemetry:
    return Telemetry(instance="ingest", service="ingest", boot_id=boot_id, errors=errors, measurements=[
        Measurement(name="host_cpu_share", value=cpu, attributes={"host": "box"}),
        Measurement(name="lepton_consumer_lag", value=lag, attributes={"topic": "in"}),
        Measurement(name="process_rss_bytes", value=5e8)])


def taken(observing: Observing) -> list[AnyInput]:
    return [one for one in observing.take() if not isinstance(one, Beat)]


async def test_figures_are_handed_on_when_they_change_and_all_of_them_now_and_then() -> None:
    clock = FakeClock()
    observing = Observing("watchdog", clock)
    both = (("host_cpu_share", "box", 0.5), ("lepton_consumer_lag", "in", 7))
    observing.heartbeat(beat(0.501, 7))
    assert taken(observing) == [Figures("ingest", "ingest", "b1", both)]
    observing.heartbeat(beat(0.503, 7))
    assert taken(observing) == []
    observing.heartbeat(beat(0.61, 7))
    assert taken(observing) == [Figures("ingest", "ingest", "b1", (("host_cpu_share", "box", 0.61),))]
    await clock.advance(SAY_ALL_S)
    observing.heartbeat(beat(0.501, 7))
    observing.heartbeat(beat(0.501, 7, "b2"))
    assert taken(observing) == [Figures("ingest", "ingest", "b1", both), Figures("ingest", "ingest", "b2", both)]


def test_failures_are_handed_on_with_their_number() -> None:
    observing = Observing("watchdog", FakeClock())
    observing.heartbeat(beat(0.5, 7, errors=(ErrorReport(kind="bug", message="x" * 500, count=3),)))
    assert [one for one in taken(observing) if isinstance(one, Failures)] == [
        Failures("ingest", "ingest", (("bug", 3, "x" * 200),))]


def test_a_limit_that_does_not_exist_is_refused() -> None:
    assert WatchdogSettings(limits={"cpu": 0.95}).limits == {"cpu": 0.95}
    with pytest.raises(ValidationError, match="cpus"):
        WatchdogSettings(limits={"cpus": 0.95})
