"""Alerts posted where Alertmanager would take them are on the telemetry topic once they are answered."""

from datetime import UTC, datetime, timedelta
from typing import Any

from lepton.contracts.pb.telemetry_pb2 import OutsideAlert
from lepton.contracts.topics import Topic
from services.watchdog.core.alerting import wording
from services.watchdog.core.alerting.alerts import CRITICAL, WARNING, Alert, Severity
from services.watchdog.core.alerting.grouping import Message
from services.watchdog.core.incident import ESCALATED, VERIFIED
from services.watchdog.flow import translate
from tests.unit.gateway.house import House
from tests.unit.gateway.test_access import assert_problem

# As Prometheus posts it.
FIRING = {"labels": {"alertname": "HighErrorRate", "severity": "critical", "instance": "web-1"},
          "annotations": {"summary": "5 % fail"}, "startsAt": "2026-01-31T12:00:00.123Z",
          "endsAt": "2026-01-31T12:04:00Z", "generatorURL": "http://prometheus/graph"}


async def alerts(house: House) -> list[OutsideAlert]:
    return [one for message in await house.messages(Topic.TELEMETRY) for one in message.alerts]


async def test_alerts_in_the_form_of_alertmanager_are_handed_on_durably(house: House) -> None:
    writer = await house.with_scopes("write")
    open_end: dict[str, Any] = {"labels": {"instance": "web-1", "severity": "critical", "alertname": "HighErrorRate"},
                                "endsAt": "0001-01-01T00:00:00Z"}
    answer = await writer.post("/api/v2/alerts", json=[FIRING, open_end])
    assert (answer.status_code, answer.content) == (200, b"")
    first, second = await alerts(house)
    assert (dict(first.labels), dict(first.annotations)) == (FIRING["labels"], FIRING["annotations"])
    assert first.ends_at.ToDatetime(UTC) == datetime(2026, 1, 31, 12, 4, tzinfo=UTC)
    # The same labels in another order are the same alert; what names no end has one in five minutes.
    assert first.fingerprint == second.fingerprint
    assert timedelta() < second.ends_at.ToDatetime(UTC) - second.starts_at.ToDatetime(UTC) <= timedelta(minutes=5)


async def test_what_is_no_alert_or_comes_with_no_such_right_is_refused_whole(house: House) -> None:
    reader, writer = await house.with_scopes("read"), await house.with_scopes("write")
    assert_problem(await reader.post("/api/v2/alerts", json=[FIRING]), 403, field="scope")
    nameless = {"labels": {"severity": "critical"}}
    assert_problem(await writer.post("/api/v2/alerts", json=[FIRING, nameless]), 422)
    assert await alerts(house) == []


def told(*, firing: bool, severity: Severity, cause: str = "model:shop") -> dict[str, Any]:
    """The document that our own sender makes."""
    state = ESCALATED if firing else VERIFIED
    alert = Alert("inc-1", "quality_loss", cause, cause, "shop", state, "told", severity,
                  "accuracy 0.5", "no rung is left", 1_770_000_000.0, 1_770_000_600.0)
    return wording.webhook(Message("webhook+http://there", alert.group, (alert,)))


async def test_the_document_of_our_own_webhook_is_taken_and_its_end_ends_the_same_alert(house: House) -> None:
    writer = await house.with_scopes("write")
    for document in (told(firing=True, severity=WARNING), told(firing=True, severity=CRITICAL),
                     told(firing=False, severity=CRITICAL)):
        assert (await writer.post("/api/v2/alerts", json=document)).status_code == 200
    begun, worse, over = await alerts(house)
    assert len({one.fingerprint for one in (begun, worse, over)}) == 1, "its end would leave one standing"
    assert (dict(begun.labels)["alertname"], dict(begun.labels)["severity"]) == ("quality_loss", WARNING)
    assert dict(over.annotations)["incident"] == "inc-1"
    assert begun.starts_at.ToDatetime(UTC).timestamp() == 1_770_000_000.0
    # Nobody says it again within minutes: it stands until its end is told.
    now = datetime.now(UTC)
    assert worse.ends_at.ToDatetime(UTC) - now > timedelta(hours=11)
    assert over.ends_at.ToDatetime(UTC) <= now + timedelta(seconds=1)


# As Grafana's webhook posts it.
GRAFANA: dict[str, Any] = {
    "receiver": "lepton", "status": "firing", "orgId": 1, "groupLabels": {"alertname": "High"},
    "commonLabels": {"alertname": "High"}, "commonAnnotations": {}, "externalURL": "http://grafana/", "version": "1",
    "groupKey": '{}:{alertname="High"}', "truncatedAlerts": 0, "title": "[FIRING:1] High", "state": "alerting",
    "message": "**Firing**", "alerts": [{
        "status": "firing", "labels": {"alertname": "High", "grafana_folder": "shop", "instance": "web-1"},
        "annotations": {"summary": "5 % fail"}, "startsAt": "2026-01-31T12:00:00.5+01:00",
        "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "http://grafana/alerting", "fingerprint": "57c6d9296de2ad39",
        "silenceURL": "http://grafana/silence", "dashboardURL": "", "panelURL": "", "values": {"B": 44.2},
        "valueString": "[ var='B' value=44.2 ]", "orgId": 1}]}


async def test_the_document_of_grafanas_webhook_is_taken(house: House) -> None:
    writer = await house.with_scopes("write")
    assert (await writer.post("/api/v2/alerts", json=GRAFANA)).status_code == 200
    (one,) = await alerts(house)
    assert (one.fingerprint, one.labels["instance"]) == ("57c6d9296de2ad39", "web-1")


async def test_a_webhook_tells_groups_beyond_what_an_array_may_have(house: House) -> None:
    writer = await house.with_scopes("write")
    (first,) = GRAFANA["alerts"]
    many = [first | {"fingerprint": f"{number:016x}"} for number in range(1_001)]
    assert (await writer.post("/api/v2/alerts", json=GRAFANA | {"alerts": many})).status_code == 200
    assert len({one.fingerprint for one in await alerts(house)}) == 1_001


async def test_incidents_of_another_lepton_of_one_symptom_are_about_each_its_own_thing(house: House) -> None:
    writer = await house.with_scopes("write")
    posted = [told(firing=True, severity=CRITICAL, cause=cause) for cause in ("model:shop", "model:fraud")]
    for document in posted:
        assert (await writer.post("/api/v2/alerts", json=document)).status_code == 200
    about = {one.about for message in await house.messages(Topic.TELEMETRY) for one in translate.alerted(message)}
    assert about == {"quality_loss/model:shop", "quality_loss/model:fraud"}


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in told(firing=True, severity=CRITICAL).items() if key != name}


async def test_what_is_of_neither_form_is_refused_by_the_place_that_is_wrong(house: House) -> None:
    writer = await house.with_scopes("write")
    for posted, path, says in (
            ("firing", "body", "post an array of alerts"),
            (without("alerts"), "body", "which has them under alerts"),
            (without("version"), "version", "required"),
            (without("version") | {"version": "3"}, "version", "only version 4, and Grafana's version 1, are"),
            (without("alerts") | {"alerts": None}, "alerts", "list"),
            (without("alerts") | {"alerts": [{"labels": {"alertname": "A"}}]}, "alerts[0].status", "required"),
            (without("alerts") | {"alerts": [{"labels": {"severity": "page"}, "status": "firing"}]},
             "alerts[0].labels", "give each alert one"),
            ([{"labels": {"severity": "page"}}], "[0].labels", "give each alert one")):
        answer = await writer.post("/api/v2/alerts", json=posted)
        assert_problem(answer, 422)
        (wrong,) = answer.json()["problems"]
        assert wrong["path"] == path
        assert says in wrong["message"]
    assert await alerts(house) == []
