"""How a message reads: title and text for people, the body of Alertmanager's webhook for programs."""

from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

from services.watchdog.core.alerting.alerts import CRITICAL, WARNING, Alert
from services.watchdog.core.alerting.grouping import Message

NO_END: Final = "0001-01-01T00:00:00Z"
"""What Alertmanager writes for the end of what has not ended."""


def title(message: Message) -> str:
    """`[critical] quality_loss of model:shop`, or how many incidents of which group."""
    firing = [one for one in message.alerts if one.firing]
    worst = CRITICAL if any(one.severity == CRITICAL for one in firing) else WARNING
    word = worst if firing else "resolved"
    if len(message.alerts) == 1:
        return f"[{word}] {message.alerts[0].symptoms} of {message.alerts[0].cause}"
    return f"[{word}] {len(message.alerts)} incidents of {message.group}"


def text(message: Message) -> str:
    """A paragraph an incident, what is wrong before what is well again."""
    parts = []
    for one in sorted(message.alerts, key=lambda one: (not one.firing, one.severity != CRITICAL, one.opened_s)):
        told = [f"{one.severity if one.firing else 'resolved'}: {one.symptoms} of {one.cause}", one.text]
        if one.why and one.why not in one.text:
            told.append(one.why)
        parts.append("\n".join((*told, f"{one.incident_id}, since {_time(one.opened_s)}")))
    if message.left_out:
        parts.append(f"{message.left_out} more were too many to be kept; `lepton incidents` has them all")
    return "\n\n".join(parts)


def webhook(message: Message) -> dict[str, Any]:
    """The body of Alertmanager's webhook, version 4 (prometheus.io/docs/alerting/latest/configuration/#webhook_config).

    An alert's fingerprint is that of its incident: it stays when the severity changes.
    """
    alerts = [_alert(one) for one in message.alerts]
    group = {"group": message.group}
    return {
        "version": "4", "groupKey": f'{{}}:{{group="{message.group}"}}', "truncatedAlerts": message.left_out,
        "status": "firing" if any(one.firing for one in message.alerts) else "resolved", "receiver": "lepton",
        "groupLabels": group, "commonLabels": _common([one["labels"] for one in alerts]),
        "commonAnnotations": _common([one["annotations"] for one in alerts]), "externalURL": "", "alerts": alerts}


def _alert(one: Alert) -> dict[str, Any]:
    # By `instance` whoever takes alerts tells what they are about, as another Lepton does.
    labels = {"alertname": one.symptom, "severity": one.severity, "class": one.kind, "cause": one.cause,
              "target": one.target, "service": "lepton", "instance": one.cause}
    if one.pipeline:
        labels["pipeline"] = one.pipeline
    return {
        "status": "firing" if one.firing else "resolved", "labels": labels,
        "annotations": {"summary": one.text, "description": one.why, "incident": one.incident_id, "state": one.state},
        "startsAt": _time(one.opened_s), "endsAt": NO_END if one.firing else _time(one.at_s), "generatorURL": "",
        "fingerprint": sha256(one.incident_id.encode()).hexdigest()[:16]}


def _common(all_of: list[dict[str, str]]) -> Mapping[str, str]:
    first, *others = all_of
    return {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}


def _time(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
