"""What is blamed for a symptom, and which symptoms another one explains."""

from collections.abc import Iterable

from services.watchdog.core.inputs import Incident
from services.watchdog.core.rules import BROKEN_DATA, BUS, QUALITY_LOSS, SILENCE, Symptom


def cause(symptom: Symptom) -> str:
    """Class and component: `process:predictor-0`, `model:phishing`, `data:phishing/broken-sensor`, …"""
    match symptom.kind:
        case "silence":
            return symptom.about if symptom.about == BUS else f"process:{symptom.about}"
        case "line_stopped":
            return f"data:{symptom.about}" if symptom.pipeline else f"line:{symptom.about}"
        case "broken_data":
            return f"data:{symptom.about}/{symptom.source}" if symptom.source else f"data:{symptom.about}"
        case "training_failure":
            return f"training:{symptom.about}"
    return f"model:{symptom.about}"


def target(symptom: Symptom) -> str:
    """What a command about it would be addressed to; also what cool-downs are counted by."""
    match symptom.kind:
        case "silence" if symptom.about == BUS:
            return BUS
        case "line_stopped" if symptom.pipeline:
            return f"pipeline:{symptom.about}"
        case "silence" | "line_stopped":
            return f"instance:{symptom.about}"
        case "broken_data":
            return f"pipeline:{symptom.about}"
    return f"model:{symptom.about}"


def explained(symptom: Symptom, open_incidents: Iterable[Incident]) -> bool:
    """Whether an incident that is open already accounts for it, so that acting on it would treat an effect.

    A bus fault explains every silence. Broken data that is not yet dealt with explains a loss of quality.
    """
    for incident in open_incidents:
        if incident.symptom == SILENCE and incident.cause == BUS and symptom.kind == SILENCE and symptom.about != BUS:
            return True
        if symptom.kind == QUALITY_LOSS and incident.symptom == BROKEN_DATA and incident.pipeline == symptom.pipeline:
            return incident.state != "escalated"
    return False
