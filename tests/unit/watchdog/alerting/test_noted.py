"""Who wants to hear of a symptom hears of it where it was noted on an incident that was opened for another one too."""

import pytest
from msgspec.structs import replace

from services.watchdog.core.alerting import wording
from services.watchdog.core.alerting.alerts import Alert, alert_of
from services.watchdog.core.alerting.grouping import Grouping, Message, Timing
from services.watchdog.core.alerting.routes import Route, addresses
from services.watchdog.core.symptom import Symptom
from services.watchdog.flow.translate import from_message, to_message
from tests.unit.watchdog.world import RULES, World, model

FAILED = Symptom("availability", "phishing", "failed: 100%", "phishing")
SLOWER = Symptom("latency", "phishing", "slower than 50 ms", "phishing")


def told(world: World) -> list[Alert]:
    return [one for one in map(alert_of, world.decisions) if one is not None]


def texts(world: World, step: str) -> list[str]:
    return [alert.text for alert in told(world) if alert.step == step]


def test_who_is_told_that_nothing_helped_is_told_what_is_still_wrong(shows: list[Symptom]) -> None:
    world = World().healthy()
    world.tick(RULES, model(1))
    world.tick(model(2, previous=1))
    shows[:] = [SLOWER]
    world.run(2)
    shows[:] = [SLOWER, FAILED]
    world.run(2)
    shows[:] = [FAILED]
    world.run(world.thresholds.fall_back_verify_s)
    assert texts(world, "escalated") == ["a person is needed: slower than 50 ms; availability: failed: 100%"]
    assert world.last().verdict == "availability: failed: 100%"


def test_what_is_quiet_by_then_is_not_told_to_be_wrong(shows: list[Symptom]) -> None:
    world = World().healthy()
    world.tick(RULES, model(1))
    world.tick(model(2, previous=1))
    shows[:] = [SLOWER, FAILED]
    world.run(2)
    shows[:] = [SLOWER]
    world.run(world.thresholds.fall_back_verify_s)
    assert texts(world, "escalated") == ["a person is needed: slower than 50 ms; no effect in time"]


def test_what_shows_before_anybody_was_told_is_told_with_it(shows: list[Symptom]) -> None:
    world = World().healthy()
    world.tick(RULES)
    shows[:] = [SLOWER, FAILED]
    world.run(2)
    assert texts(world, "escalated") == [
        "a person is needed: slower than 50 ms; availability: failed: 100%; no command can cure it"]


def test_who_wants_to_hear_of_a_symptom_hears_of_one_that_is_noted(shows: list[Symptom]) -> None:
    world, grouping = World().healthy(), Grouping(Timing(0, 0, 20))
    world.tick(RULES)
    shows[:] = [SLOWER]
    world.run(2)
    shows[:] = [SLOWER, FAILED]
    world.run(2)
    shows[:] = []
    world.run(2)
    routes = [Route(("pager://",), symptom=("availability",)), Route(("chat://",), symptom=("latency",)),
              Route(("shop://",), symptom=("surge",))]
    heard: list[tuple[str, str]] = []
    for alert in told(world):
        assert grouping.add(alert, addresses(routes, alert, ()), alert.at_s)
        heard += [(one.address, one.alerts[0].step) for one in grouping.due(alert.at_s)]
    assert sorted(heard) == [
        ("chat://", "escalated"), ("chat://", "escalated also availability"), ("chat://", "verified"),
        ("pager://", "escalated also availability"), ("pager://", "verified")]
    noted = next(alert for alert in told(world) if alert.step == "escalated also availability")
    assert noted.text == ("a person is needed: slower than 50 ms; no command can cure it; "
                          "also availability: failed: 100%")
    assert wording.title(Message("pager://", "", (noted,))) == (
        "[critical] latency and availability of serving:phishing")
    again = alert_of(replace(world.decisions[-2], incident=from_message(to_message(world.decisions[-2].incident))))
    assert again is not None
    assert addresses(routes, again, ()) == ("pager://", "chat://"), "who takes over knows it from the store"


@pytest.mark.parametrize(("approval", "said"), [
    ((), "fall_back of pipeline:phishing: slower than 50 ms; also availability: failed: 100%"),
    (("fall_back",), "` or `deny`; slower than 50 ms; also availability: failed: 100%")], ids=["commanded", "asked"])
def test_what_is_noted_while_a_step_is_under_way_or_asked_for_is_told_with_it(
        shows: list[Symptom], approval: tuple[str, ...], said: str) -> None:
    world = World().healthy()
    world.tick(replace(RULES, approval=approval), model(1))
    world.tick(model(2, previous=1))
    shows[:] = [SLOWER]
    world.run(2)
    shows[:] = [SLOWER, FAILED]
    world.run(2)
    assert [one.step for one in told(world)][1:] == [f"{told(world)[0].step} also availability"]
    assert told(world)[-1].text.endswith(said)
