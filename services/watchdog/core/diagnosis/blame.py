"""Which complaints of a process are only passed on: it calls one that is sick, and those calls fail."""

from collections.abc import Iterable
from typing import Final

from services.watchdog.core.inputs import Incident
from services.watchdog.core.state import State
from services.watchdog.core.symptom import CRASH_LOOP, CUT_OFF, ERRORS, FAILURES, FILES, LEAK, SILENCE, Symptom

COMPLAINTS: Final = frozenset({FAILURES, ERRORS})
SICK: Final = COMPLAINTS | {SILENCE, CUT_OFF, CRASH_LOOP, LEAK, FILES}


def passed_on(symptom: Symptom, open_incidents: Iterable[Incident], state: State, now: float) -> bool:
    """Whether an open incident is about a process whose callers fail with it, `symptom` being what one of them says."""
    if symptom.kind not in COMPLAINTS:
        return False
    for incident in open_incidents:
        kind, _, process = incident.target.partition(":")
        if kind == "instance" and process != symptom.about and incident.symptom in SICK and (
                state.graph.hangs_on(symptom.about, process) and state.graph.failing(symptom.about, process, now)):
            return True
    return False
