"""What is about to expire is told to a person while there is time, once, with who trusts it."""

import pytest

from services.watchdog.core.inputs import Figures
from tests.unit.watchdog.world import World


@pytest.fixture
def world() -> World:
    return World().healthy()


def say(world: World, days: float, instance: str = "ingest", certificate: str = "kafka-authority") -> None:
    world.tick(Figures(instance, instance, world.beating[instance], (("certificate_days", certificate, days),)))
    world.run(2)


def test_a_certificate_that_will_expire_is_one_incident_and_well_once_everybody_has_the_new(world: World) -> None:
    for days in (400.0, 21.5):
        say(world, days)
    assert world.decisions == []
    for instance in ("ingest", "trainer"):
        say(world, 20.4, instance)
    told = world.last()
    assert (told.symptom, told.cause, told.target, told.state) == (
        "certificate", "dependency:certificate/kafka-authority", "certificate:kafka-authority", "escalated")
    assert "kafka-authority expires in 20 days; trusted by ingest" in told.timeline[0].detail
    assert "diagnosed: dependency 100%" in f"{told.timeline[1].what}: {told.timeline[1].detail}"
    say(world, 365.0, "ingest")
    assert world.last().state == "escalated"
    say(world, 365.0, "trainer")
    assert world.last().state == "verified"
    assert len({one.incident.id for one in world.decisions}) == 1
    assert world.commands() == []


def test_one_that_has_expired_is_told_as_that(world: World) -> None:
    say(world, -3.0, "gateway", "signing-key/operator")
    assert "signing-key/operator expired 3 days ago; trusted by gateway" in world.last().timeline[0].detail


def test_what_is_never_said_again_is_forgotten(world: World) -> None:
    say(world, 5.0)
    world.run(60)
    assert world.last().state == "verified"


def test_a_gpu_whose_memory_is_used_up_is_a_resource_and_short_peaks_are_none(world: World) -> None:
    def gpu(share: float, times: int) -> None:
        for _ in range(times):
            world.tick(Figures("trainer", "trainer", "b", (("host_gpu_memory_share", "box/0", share),)))
            world.run(5)
    gpu(0.99, 40)
    gpu(0.5, 10)
    assert world.decisions == []
    gpu(0.99, 65)
    assert (world.last().symptom, world.last().cause, world.last().state) == ("gpu", "resources:gpu/box/0", "escalated")
    gpu(0.5, 10)
    assert world.last().state == "verified"
