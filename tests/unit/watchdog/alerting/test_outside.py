"""What other monitoring systems say is an incident until all that is said about one thing is over."""

from google.protobuf.timestamp_pb2 import Timestamp

from lepton.clock import FakeClock
from lepton.contracts.pb import telemetry_pb2
from services.watchdog.core.alerting.outside import UNHEARD_S
from services.watchdog.core.inputs import Alerted, Leads, Rules
from services.watchdog.core.journal import replay
from services.watchdog.flow.observing import Observing
from tests.unit.watchdog.world import WALL_S, World


def alerted(world: World, fingerprint: str = "f1", *, severity: str = "critical", for_s: float = 60.0) -> Alerted:
    return Alerted(fingerprint, "HighErrorRate/web-1", severity, "shop", "5 % fail", WALL_S + world.now + for_s)


def states(world: World) -> list[tuple[str, str]]:
    return [(one.incident.symptom, one.incident.state) for one in world.decisions]


def test_a_critical_one_needs_a_person_at_once_and_is_well_when_all_about_the_thing_are_over() -> None:
    world = World().healthy()
    world.tick(Rules("shop", notify=("a://1",)))
    world.tick(alerted(world), alerted(world, "f2"))
    world.run(1)
    assert states(world) == [("outside_alert", "suspected"), ("outside_alert", "escalated")]
    assert (world.last().cause, world.last().pipeline) == ("outside:HighErrorRate/web-1", "shop")
    assert {one.notify for one in world.decisions} == {("a://1",)}
    world.tick(alerted(world, for_s=-1))
    world.run(1)
    assert world.last().state == "escalated"
    world.tick(alerted(world, "f2", for_s=-1))
    assert world.last().state == "verified"
    assert list(replay(world.written())) == world.made


def test_one_that_is_not_said_again_ends_by_itself_and_a_mild_one_fetches_nobody_until_it_is_worse() -> None:
    world = World().healthy()
    world.tick(alerted(world, severity="warning", for_s=5))
    world.run(3)
    assert states(world) == [("outside_alert", "suspected")]
    assert "5 % fail" in world.decisions[0].alert
    world.tick(alerted(world, severity="critical", for_s=5))
    assert world.last().state == "escalated"
    world.run(6)
    assert world.last().state == "verified"


def test_after_a_start_nothing_is_called_over_before_it_would_have_been_said_again() -> None:
    world = World().healthy()
    world.tick(alerted(world))
    incident = world.last()
    later = World().healthy()
    later.tick(Leads(2, (incident,)))
    later.run(60)
    assert later.decisions == []
    later.run(UNHEARD_S)
    assert later.last().state == "verified"


def test_a_message_with_alerts_is_no_heartbeat() -> None:
    observing, ends = Observing("watchdog", FakeClock()), Timestamp(seconds=1000)
    observing.heartbeat(telemetry_pb2.Telemetry(instance="gateway", service="gateway", alerts=[
        telemetry_pb2.OutsideAlert(fingerprint="f1", labels={"alertname": "DiskFull", "severity": "page"},
                                   annotations={"description": "full"}, ends_at=ends)]))
    assert observing.take() == [Alerted("f1", "DiskFull", "page", "", "full", 1000.0)]
