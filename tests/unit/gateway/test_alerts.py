"""Alerts posted where Alertmanager would take them are on the telemetry topic once they are answered."""

from datetime import UTC, datetime, timedelta
from typing import Any

from lepton.contracts.pb.telemetry_pb2 import OutsideAlert
from lepton.contracts.topics import Topic
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
