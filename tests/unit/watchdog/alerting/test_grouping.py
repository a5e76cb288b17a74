"""People are told each step once, of a group together, again while it lasts, of its end, and never too often."""

import json

import pytest

from services.watchdog.core import incident as life
from services.watchdog.core.alerting import wording
from services.watchdog.core.alerting.alerts import Alert, alert_of
from services.watchdog.core.alerting.grouping import MAX_WAITING, Grouping, Message, Timing
from services.watchdog.core.alerting.routes import Route, addresses
from services.watchdog.core.inputs import Decision, Incident, Tick
from services.watchdog.settings import WatchdogSettings

ADDRESS = ("a://1",)
TIMING = Timing(group_s=5, repeat_s=600, per_minute=3)


def opened(name: str = "shop", at: float = 0.0) -> Incident:
    return life.opened("quality_loss", f"model:{name}", f"model:{name}", name, "accuracy 0.5", Tick(at, at, 0.1))


def commanded(incident: Incident, action: str, number: int = 1, at: float = 1.0) -> Incident:
    return life.commanded(incident, f"{incident.id}-{number}", action, 60, Tick(at, at, 0.1))


def alert(incident: Incident) -> Alert:
    found = alert_of(Decision(incident, alert="so it is"))
    assert found is not None
    return found


def told(grouping: Grouping, now: float) -> list[tuple[str, list[str]]]:
    return [(one.group, [alert.step for alert in one.alerts]) for one in grouping.due(now)]


def test_a_group_is_one_message_with_the_latest_word_on_each_incident() -> None:
    grouping, first = Grouping(TIMING), opened()
    grouping.add(alert(first), ADDRESS, 0.0)
    grouping.add(alert(opened(at=7)), ADDRESS, 2.0)
    grouping.add(alert(commanded(first, "roll_back")), ADDRESS, 4.0)
    assert told(grouping, 4.9) == []
    assert told(grouping, 5.0) == [("pipeline shop", ["suspected", "commanded roll_back"])]
    assert told(grouping, 100.0) == []


def test_each_step_is_told_once_another_action_is_another_step() -> None:
    grouping, first = Grouping(TIMING), commanded(opened(), "restart")
    assert grouping.add(alert(first), ADDRESS, 0.0)
    assert told(grouping, 5.0) == [("pipeline shop", ["commanded restart"])]
    again = commanded(first, "restart", 2)
    assert not grouping.add(alert(again), ADDRESS, 6.0)
    assert grouping.add(alert(commanded(again, "retrain", 3)), ADDRESS, 7.0)
    assert told(grouping, 20.0) == [("pipeline shop", ["commanded retrain"])]


def test_what_lasts_is_told_again_and_its_end_to_whom_it_was_told_then_no_more() -> None:
    grouping, first = Grouping(TIMING), life.escalated(opened(), "no rung", Tick(2, 2, 0.1))
    grouping.add(alert(first), ADDRESS, 0.0)
    assert told(grouping, 5.0) == [("pipeline shop", ["escalated"])]
    assert told(grouping, 599.0) == []
    told(grouping, 601.0)
    assert told(grouping, 606.0) == [("pipeline shop", ["escalated"])]
    grouping.add(alert(life.verified(first, "well", Tick(700, 700, 0.1))), (), 700.0)
    (message,) = grouping.due(705.0)
    assert (message.address, message.alerts[0].firing, message.alerts[0].severity) == ("a://1", False, "critical")
    assert told(grouping, 9_999.0) == []


def test_an_address_gets_no_more_than_its_rate_and_then_what_waited_together() -> None:
    grouping = Grouping(Timing(0, 0, 2))
    for number in range(4):
        grouping.add(alert(opened(f"p{number}")), ADDRESS, 0.0)
    assert len(grouping.due(0.0)) == 2
    assert grouping.due(59.0) == []
    grouping.add(alert(opened("p2", at=3)), ADDRESS, 59.0)
    assert [len(one.alerts) for one in grouping.due(60.0)] == [2, 1]


def test_beyond_what_may_wait_the_oldest_are_counted() -> None:
    grouping = Grouping(TIMING)
    for number in range(MAX_WAITING + 3):
        grouping.add(alert(opened(at=number)), ADDRESS, 0.0)
    (message,) = grouping.due(5.0)
    assert (len(message.alerts), message.left_out) == (MAX_WAITING, 3)
    assert "3 more were too many" in wording.text(message)


def test_nobody_hears_of_the_end_of_what_nobody_was_told_of() -> None:
    assert alert_of(Decision(life.verified(opened(), "well", Tick(1, 1, 0.1)), alert="well again")) is None
    assert alert_of(Decision(opened(), alert="")) is None


def test_routes_choose_by_severity_class_symptom_and_pipeline() -> None:
    first = opened()
    warning, critical = alert(first), alert(life.escalated(first, "no rung", Tick(2, 2, 0.1)))
    routes = [Route(("all://",)), Route(("night://", "log"), severity=("critical",)),
              Route(("data://",), classes=("data",)), Route(("shops://",), pipeline=("sh*",)),
              Route(("loss://",), symptom=("quality_loss",), pipeline=("other",))]
    assert addresses(routes, warning, ("own://", "log", "all://")) == ("all://", "shops://", "own://")
    assert addresses(routes, critical, ()) == ("all://", "night://", "shops://")


@pytest.mark.parametrize(("routes", "said"), [
    ('[{"to": ["a://secret"], "severity": ["loud"]}]', "severity"), ('[{"too": ["a://secret"]}]', "too"),
    ('[{"to": ["a://secret"', "truncated"),
])
def test_routes_that_cannot_be_read_are_refused_without_showing_an_address(routes: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as refused:
        WatchdogSettings(routes=routes)
    assert "secret" not in str(refused.value)


def test_the_webhook_has_the_body_of_alertmanager_version_4() -> None:
    first = life.escalated(opened(), "no rung", Tick(2, 2, 0.1))
    body = json.loads(json.dumps(wording.webhook(Message("a", "pipeline shop", (alert(first),)))))
    assert {name: body[name] for name in ("version", "status", "receiver", "groupLabels", "truncatedAlerts")} == {
        "version": "4", "status": "firing", "receiver": "lepton", "groupLabels": {"group": "pipeline shop"},
        "truncatedAlerts": 0}
    (one,) = body["alerts"]
    assert body["commonLabels"] == one["labels"] == {
        "alertname": "quality_loss", "severity": "critical", "class": "model", "cause": "model:shop",
        "target": "model:shop", "service": "lepton", "instance": "model:shop", "pipeline": "shop"}
    assert (one["status"], one["startsAt"], one["endsAt"]) == (
        "firing", "1970-01-01T00:00:00.000Z", "0001-01-01T00:00:00Z")
    ended = wording.webhook(Message("a", "pipeline shop", (alert(life.verified(first, "well", Tick(9, 9, 0.1))),)))
    assert (ended["status"], ended["alerts"][0]["endsAt"]) == ("resolved", "1970-01-01T00:00:09.000Z")
    assert ended["alerts"][0]["fingerprint"] == one["fingerprint"]
