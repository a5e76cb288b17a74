"""What is done once a symptom is gone: dead letters that came meanwhile go back, and must not bring it on again."""

from typing import Final

from services.watchdog.core.inputs import Incident, Tick
from services.watchdog.core.safety.rung import Rung
from services.watchdog.core.safety.verdict import Finding, Verdict
from services.watchdog.core.state import State
from services.watchdog.core.symptom import BROKEN_DATA, SCHEMA_CHANGE

REPLAY: Final = "replay_dead_letters"

# Summaries come every two seconds, and what went back is read behind what waits: so long the symptom must stay away.
SETTLE_S = 10.0


def due(incident: Incident, state: State) -> Rung | None:
    """The action that follows the end of the symptom; None where none is wanted or it was taken."""
    rules = state.rules.get(incident.pipeline)
    kinds = {incident.symptom, *incident.also}
    if SCHEMA_CHANGE in kinds:
        # Rows that lack a field under its name are turned away as all that is broken.
        kinds.add(BROKEN_DATA)
    if rules is None or kinds.isdisjoint(rules.replay_after) or incident.action == REPLAY:
        return None
    return Rung(REPLAY, state.thresholds.replay_verify_s)


def under_way(incident: Incident) -> bool:
    """Whether it was commanded and not yet judged."""
    return incident.action == REPLAY and incident.state == "commanded"


def judged(incident: Incident, symptom: Verdict, tick: Tick) -> Verdict:
    """Whether the letters went back and the symptom stayed away. WORSE: a person is to look."""
    if incident.answered in ("refused", "failed"):
        return Verdict(Finding.WORSE, f"dead letters were not sent back: {_answer(incident)}")
    settled = tick.monotonic_s >= incident.commanded_at + SETTLE_S
    if symptom.finding is Finding.WELL and incident.answered and settled:
        return Verdict(Finding.WELL, f"{symptom.why}; {_answer(incident)}")
    if tick.monotonic_s < incident.deadline:
        return Verdict(Finding.OPEN)
    return Verdict(Finding.WORSE, "dead letters that went back brought it on again" if incident.answered else
                   "nobody sent the dead letters back in time")


def _answer(incident: Incident) -> str:
    return next((note.detail for note in reversed(incident.timeline) if note.what.startswith("answered ")), "")
