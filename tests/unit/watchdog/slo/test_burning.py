"""Error budgets that burn fast, slowly, or not; and what of a heartbeat counts against them."""

import random
import re

import pytest
from msgspec.structs import replace

from lepton.contracts.pb.telemetry_pb2 import Measurement, Telemetry
from lepton.contracts.pipeline import parse
from lepton.errors import Invalid
from services.watchdog.core.inputs import Requests
from services.watchdog.core.slo.burn import Burning
from services.watchdog.core.thresholds.limits import SloRule
from services.watchdog.flow import translate
from tests.unit.watchdog.world import RULES, World

HOUR, DAY = 3_600, 86_400


def burn(burning: Burning, begin: float, seconds: int, bad_share: float, rate: float = 50.0, step: int = 10) -> str:
    for now in range(0, seconds, step):
        burning.add(step * rate * (1 - bad_share), step * rate * bad_share, begin + now)
        burning.look(begin + now)
    return burning.standing


def test_an_outage_is_found_within_two_minutes_and_ends_minutes_after_it() -> None:
    burning = Burning(0.999)
    assert burn(burning, 0, 3_600, 0.0) == ""
    assert "times what 99.900% allows" in burn(burning, 3_600, 120, 0.5)
    assert burn(burning, 3_720, 420, 0.0) == ""


def test_a_slow_burn_is_found_within_hours() -> None:
    burning = Burning(0.999)
    assert burn(burning, 0, 1_800, 0.007) != "" or burn(burning, 1_800, 20_000, 0.007) != ""


def test_what_would_spend_the_budget_in_days_is_found_in_days_and_ends_when_it_does() -> None:
    """Half as much again as is allowed: too little for the hours, enough for three days."""
    burning = Burning(0.999)
    assert burn(burning, 0, 3 * DAY, 0.0, step=60) == ""
    assert burn(burning, 3 * DAY, DAY, 0.0015, step=60) == ""
    told = burn(burning, 4 * DAY, 2 * DAY, 0.0015, step=60)
    of = re.fullmatch(r"0\.10% of (\d+) requests, 1\.0 times what 99\.900% allows", told)
    assert of is not None
    assert int(of[1]) > 50 * 2 * DAY
    assert burn(burning, 6 * DAY, 420, 0.0, step=60) == ""


def test_an_outage_of_the_day_before_does_not_make_a_few_minutes_of_failures_an_alarm() -> None:
    burning = Burning(0.999)
    assert burn(burning, 0, 3 * HOUR, 0.05, step=60) != ""
    assert burn(burning, 3 * HOUR, DAY, 0.0, step=60) == ""
    assert burn(burning, DAY + 3 * HOUR, 600, 0.0015, step=60) == ""


def test_what_the_objective_allows_is_no_alarm_nor_is_a_blip() -> None:
    chance, burning = random.Random(1), Burning(0.999)
    for now in range(0, 86_400, 30):
        bad = sum(chance.random() < 0.0005 for _ in range(600))
        burning.add(600 - bad, bad, now)
        assert burning.look(now) == ""
    burning.add(0, 20, 86_400)
    assert burning.look(86_400) == ""


def test_a_few_failures_of_a_few_requests_say_nothing() -> None:
    burning = Burning(0.999)
    burning.add(3, 5, 0)
    assert burning.look(1) == ""


def test_an_objective_with_a_large_budget_can_still_be_missed() -> None:
    burning = Burning(0.9)
    assert burn(burning, 0, 600, 0.6) != ""


@pytest.fixture
def world() -> World:
    world = World().healthy()
    world.tick(replace(RULES, slo=SloRule(availability=0.999, latency_ms=50.0)))
    return world


def test_failed_requests_are_an_incident_that_ends(world: World) -> None:
    for _ in range(60):
        world.tick(Requests("phishing", 500, 0))
        world.tick(gap_s=0.9)
    assert world.decisions == []
    for _ in range(60):
        world.tick(Requests("phishing", 300, 200))
        world.tick(gap_s=0.9)
    assert (world.last().symptom, world.last().cause) == ("availability", "serving:phishing")
    for _ in range(800):
        world.tick(Requests("phishing", 500, 0))
        world.tick(gap_s=0.9)
    assert world.last().state == "verified"


def test_slow_requests_are_one_too_and_fast_ones_are_not(world: World) -> None:
    for _ in range(60):
        world.tick(Requests("phishing", 500, 0, ((20.0, 400), (50.0, 100))))
    assert world.decisions == []
    for _ in range(60):
        world.tick(Requests("phishing", 500, 0, ((50.0, 100), (1e9, 400))))
    assert (world.last().symptom, world.last().pipeline) == ("latency", "phishing")


def test_requests_that_fail_with_their_process_are_its_effect(world: World) -> None:
    del world.beating["predictor-0"]
    world.run(3)
    for _ in range(60):
        world.tick(Requests("phishing", 0, 500))
    assert {decision.incident.symptom for decision in world.decisions} == {"silence"}


def test_faults_of_callers_count_against_nobody() -> None:
    def said(outcome: str, count: int) -> Measurement:
        return Measurement(name="lepton_predictor_requests", value=count,
                           attributes={"model": "m", "outcome": outcome})

    def took(up_to_ms: str) -> Measurement:
        return Measurement(name="lepton_predictor_request_times", value=2,
                           attributes={"model": "m", "up_to_ms": up_to_ms})

    heard = Telemetry(instance="p", service="predictor", measurements=[
        said("ok", 90), said("Invalid", 50), said("Busy", 7), said("bug", 3), took("20"), took("more")])
    assert list(translate.requests(heard)) == [Requests("m", 90, 10, ((20.0, 2), (1e9, 2)), refused=7)]
    assert list(translate.requests(Telemetry(service="predictor", measurements=[said("Invalid", 5)]))) == []


def test_only_lengths_that_are_counted_can_be_promised() -> None:
    text = """
apiVersion: lepton/v1
kind: Pipeline
metadata: {name: shop}
events: {partitions: 1, fields: {x: {type: float}}}
watch: {slo: {availability: 0.999, latency_ms: 50.0}}
"""
    assert translate.rules(parse(text)).slo == SloRule(0.999, 50.0, 0.99)
    with pytest.raises(Invalid, match="must be one of 1, 2, 5"):
        parse(text.replace("50.0", "70.0"))
