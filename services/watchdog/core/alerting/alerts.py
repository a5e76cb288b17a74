"""What a decision means to a person: an alert with its severity, and whether it ends one they were told of."""

from dataclasses import dataclass
from typing import Final, Literal

from services.watchdog.core.incident import ALSO, COMMANDED, ESCALATED, VERIFIED, also
from services.watchdog.core.inputs import Decision, Incident
from services.watchdog.core.symptom import BUS, TOLD_AT_ONCE

Severity = Literal["warning", "critical"]
WARNING: Final = "warning"
CRITICAL: Final = "critical"


@dataclass(frozen=True, slots=True)
class Alert:
    """An incident as a person is told of it. `text`: what was done or is asked for; times in seconds since the epoch.

    `severity`: `warning` while it is dealt with, `critical` from when a person was needed, to its end. `at_s`: of what
    is told, which follows `opened_s`. `step`: what it reached; each step is told once. `also`: its other symptoms, each
    of them a step.
    """

    incident_id: str
    symptom: str
    cause: str
    target: str
    pipeline: str
    state: str
    step: str
    severity: Severity
    text: str
    why: str
    opened_s: float
    at_s: float
    also: tuple[str, ...] = ()

    @property
    def firing(self) -> bool:
        return self.state != VERIFIED

    @property
    def symptoms(self) -> str:
        """What shows of its cause, or showed since it was opened."""
        return " and ".join((self.symptom, *self.also))

    @property
    def kind(self) -> str:
        """Class of its cause: `process`, `data`, `model`, `resources`, `surge`, `serving`, …"""
        return self.cause.partition(":")[0]

    @property
    def group(self) -> str:
        """What is told in one message: all of a pipeline, or all of a class where there is none."""
        return f"pipeline {self.pipeline}" if self.pipeline else self.kind


def alert_of(decision: Decision) -> Alert | None:
    """What is to be told of a decision, if anything: of what ended, only where a person was told that it was there."""
    incident = decision.incident
    if not decision.alert or (incident.state == VERIFIED and not _was_told(incident)):
        return None
    return alert(incident, decision.alert)


def alert(incident: Incident, text: str) -> Alert:
    last = incident.timeline[-1] if incident.timeline else None
    what = incident.action if incident.state == COMMANDED else incident.awaiting
    joined = f" also {last.what.removeprefix(ALSO)}" if last is not None and last.what.startswith(ALSO) else ""
    step = f"{incident.state} {what}".rstrip() + joined
    return Alert(incident.id, incident.symptom, incident.cause, incident.target, incident.pipeline, incident.state,
                 step, CRITICAL if _escalated(incident) else WARNING, text,
                 incident.timeline[0].detail if incident.timeline else "", incident.opened_s,
                 last.at_s if last is not None else incident.opened_s, also(incident))


def _escalated(incident: Incident) -> bool:
    return incident.state == ESCALATED or any(note.what in ("asked", "escalated") for note in incident.timeline)


def _was_told(incident: Incident) -> bool:
    """Read from the incident alone: another watchdog may have told."""
    return (bool(incident.command_ids) or _escalated(incident) or incident.symptom in TOLD_AT_ONCE
            or incident.cause == BUS)
