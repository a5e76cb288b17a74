"""A process that dies again and again is one incident: its silence is part of it, and so is its way back."""

from collections.abc import Collection

from services.watchdog.core.diagnose import EFFECTS_OF_SILENCE
from services.watchdog.core.inputs import READY, Incident
from services.watchdog.core.safety.verdict import Finding, Verdict
from services.watchdog.core.state import State
from services.watchdog.core.symptom import CRASH_LOOP, SILENCE, Symptom


def silent(incident: Incident, state: State) -> bool:
    """Whether the process of the loop is away at this tick."""
    return incident.symptom == CRASH_LOOP and (SILENCE, incident.cause) in state.standing


def takes_over(opened: Incident, state: State) -> bool:
    """Whether the silence of its process is still to be dealt with; who is ready again ends that by itself."""
    life = state.lives.by_name.get(opened.target.removeprefix("instance:"))
    return silent(opened, state) or life is None or life.state != READY


def explains(symptom: Symptom, by: Collection[Incident], state: State) -> bool:
    """Whether it hangs on a process that is in a loop and away; while it runs, it excuses nothing."""
    return symptom.kind in EFFECTS_OF_SILENCE and any(silent(one, state) for one in by)


def look(incident: Incident, state: State, quiet: Verdict) -> Verdict:
    """`quiet` is what the count of deaths says. Nobody who is away is well, however long ago they died; a restart that
    brought them back is not held to have failed while the deaths before it still count."""
    life = state.lives.by_name.get(incident.target.removeprefix("instance:"))
    away, another = silent(incident, state), life is not None and life.boot_id != incident.boot_id
    if quiet.finding is Finding.WELL:
        return Verdict(Finding.OPEN) if away else quiet
    if quiet.finding is not Finding.OPEN or incident.state != "commanded" or life is None:
        return quiet
    if away:
        return Verdict(Finding.OPEN, "the new process ended too" if another else "")
    return Verdict(Finding.WAIT, f"a new process is ready (boot {life.boot_id})" if (
        another and life.state == READY) else "")
