from lepton.clock import FakeClock
from lepton.contracts.pb import telemetry_pb2
from lepton.runtime.health import Health


def ready_health(clock: FakeClock) -> Health:
    health = Health(clock)
    health.enter(telemetry_pb2.INSTANCE_STATE_READY)
    return health


def test_a_process_is_ready_only_once_it_started() -> None:
    health = Health(FakeClock())
    assert not health.ready
    assert health.state == telemetry_pb2.INSTANCE_STATE_STARTING
    health.enter(telemetry_pb2.INSTANCE_STATE_READY)
    assert health.ready


async def test_work_that_stands_still_makes_the_process_not_ready_until_it_moves() -> None:
    clock = FakeClock()
    health = ready_health(clock)
    progress = health.check("accept", deadline_s=2)
    await clock.advance(1.9)
    assert health.ready
    await clock.advance(0.2)
    assert not health.ready
    assert health.state == telemetry_pb2.INSTANCE_STATE_NOT_READY
    assert health.failing() == {"accept": "no progress for 2.1 s"}
    progress.beat()
    assert health.ready


def test_failed_work_says_why_until_its_next_beat() -> None:
    health = ready_health(FakeClock())
    progress = health.check("accept", deadline_s=2)
    progress.fail("the dead-letter limit was passed")
    assert health.report() == {"state": "not_ready", "ready": False, "checks": ["accept"],
                               "failing": {"accept": "the dead-letter limit was passed"}, "notes": {}}
    progress.beat()
    assert health.ready


def test_a_condition_holds_until_it_is_set_again_or_forgotten() -> None:
    health = ready_health(FakeClock())
    health.set_condition("champion", False, "no model yet")
    assert health.failing() == {"champion": "no model yet"}
    health.set_condition("champion", True)
    assert health.ready
    health.set_condition("champion", False)
    health.forget("champion")
    assert health.ready


def test_a_draining_process_is_not_ready_however_well_it_is() -> None:
    health = ready_health(FakeClock())
    health.enter(telemetry_pb2.INSTANCE_STATE_DRAINING)
    assert not health.ready
    assert health.report()["state"] == "draining"


async def test_a_drained_process_is_draining_for_a_time_and_one_that_stops_is_not_drained() -> None:
    clock = FakeClock()
    health = ready_health(clock)
    health.drain(until=clock.monotonic() + 5)
    assert (health.drained, health.report()["state"], health.ready) == (True, "draining", False)
    await clock.advance(5)
    assert (health.drained, health.ready) == (False, True)
    health.drain(until=clock.monotonic() + 5)
    health.serve()
    assert health.ready
    health.drain(until=clock.monotonic() + 5)
    health.enter(telemetry_pb2.INSTANCE_STATE_DRAINING)
    assert not health.drained


def test_a_note_is_shown_and_keeps_nobody_from_being_ready() -> None:
    health = Health(FakeClock())
    health.enter(telemetry_pb2.INSTANCE_STATE_READY)
    health.note("pull shop/orders", "the database says: no route")
    assert health.ready
    assert health.report()["notes"] == {"pull shop/orders": "the database says: no route"}
    health.note("pull shop/orders", "")
    assert health.report()["notes"] == {}
