"""What a restart or a scale means, decided without touching a process."""

import pytest

from deploy.actuator import units
from lepton.errors import Invalid, Refused

UNITS = units.parse("gateway=1..1,predictor=1..3")
RUNNING = {"gateway": True, "predictor-0": True, "predictor-1": False, "predictor-2": False, "kafka": True}


def test_a_restart_of_an_instance_is_about_that_one() -> None:
    assert units.restarts(UNITS, "instance:predictor-0", RUNNING) == ("predictor-0",)


def test_a_restart_of_a_service_is_about_those_that_run() -> None:
    assert units.restarts(UNITS, "service:predictor", RUNNING) == ("predictor-0",)


@pytest.mark.parametrize("target", ["instance:kafka", "instance:predictor-9", "instance:", "service:kafka",
                                    "model:phishing", "predictor-0", ""])
def test_what_is_no_named_unit_is_refused(target: str) -> None:
    with pytest.raises(Refused):
        units.restarts(UNITS, target, RUNNING)


def test_scaling_up_starts_the_lowest_numbers() -> None:
    assert units.scale(UNITS, "service:predictor", 3, RUNNING) == units.Change(("predictor-1", "predictor-2"), ())


def test_scaling_down_stops_the_highest_numbers_first() -> None:
    running = dict.fromkeys(("predictor-0", "predictor-1", "predictor-2"), True)
    assert units.scale(UNITS, "service:predictor", 1, running) == units.Change((), ("predictor-2", "predictor-1"))


def test_scaling_to_what_runs_changes_nothing() -> None:
    assert units.scale(UNITS, "service:predictor", 1, RUNNING) == units.Change((), ())


@pytest.mark.parametrize("replicas", [0, 4])
def test_scaling_outside_the_bounds_is_refused(replicas: int) -> None:
    with pytest.raises(Refused) as refused:
        units.scale(UNITS, "service:predictor", replicas, RUNNING)
    assert refused.value.field == "replicas"


def test_scaling_beyond_what_is_defined_is_refused() -> None:
    with pytest.raises(Refused, match="only 1"):
        units.scale(units.parse("predictor=1..3"), "service:predictor", 2, {"predictor-0": True})


def test_an_instance_cannot_be_scaled() -> None:
    with pytest.raises(Refused):
        units.scale(UNITS, "instance:predictor-0", 1, RUNNING)


def test_the_order_of_numbers_is_not_the_order_of_letters() -> None:
    running = {f"predictor-{number}": False for number in range(12)}
    change = units.scale(units.parse("predictor=1..12"), "service:predictor", 11, running)
    assert change.start[-1] == "predictor-10"


@pytest.mark.parametrize("text", ["predictor", "predictor=2..1", "predictor=0..0", "predictor=1..x", ""])
def test_units_that_make_no_sense_are_invalid(text: str) -> None:
    with pytest.raises(Invalid) as invalid:
        units.parse(text)
    assert invalid.value.field == "LEPTON_ACTUATOR_UNITS"
