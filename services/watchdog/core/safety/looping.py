"""A process that dies again and again is one incident: its silence is part of it, and so is its way back."""

from collections.abc import Collection

from msgspec.structs import replace

from services.watchdog.core.diagnose import EFFECTS_OF_SILENCE, cause
from services.watchdog.core.inputs import READY, Answered, Incident
from services.watchdog.core.safety.policy import unbidden
from services.watchdog.core.safety.verdict import Finding, Verdict
from services.watchdog.core.state import State
from services.watchdog.core.symptom import CRASH_LOOP, SILENCE, Symptom

_TRIED = frozenset({"answered done", "answered failed"})


def silent(incident: Incident, state: State) -> bool:
    """Whether the process of the loop is away at this tick."""
    return incident.symptom == CRASH_LOOP and (SILENCE, incident.cause) in state.standing


def as_silence(incident: Incident) -> Incident:
    """Restarts in a loop are those that a silence has."""
    return replace(incident, symptom=SILENCE) if incident.symptom == CRASH_LOOP else incident


def takes_over(opened: Incident, state: State) -> bool:
    """Whether the silence of its process is still to be dealt with; who is ready again ends that by itself."""
    life = state.lives.by_name.get(opened.target.removeprefix("instance:"))
    return _free(state) and (silent(opened, state) or life is None or life.state != READY)


def explains(symptom: Symptom, by: Collection[Incident], state: State) -> bool:
    """Whether it hangs on a process that is in a loop and away; while it runs, it excuses nothing.

    Its own silence does where restarts are ordered without a word; else a person is asked about each, as ever.
    """
    if symptom.kind == SILENCE:
        return _free(state) and any(one.symptom == CRASH_LOOP and one.cause == cause(symptom) for one in by)
    return symptom.kind in EFFECTS_OF_SILENCE and any(silent(one, state) for one in by)


def found(incident: Incident, answer: Answered) -> str:
    """What a restart found of a silent process, in words; empty where its answer does not tell.

    Only of one that was heard before the first: whom nobody heard since it began may have been slow to start.
    """
    if incident.action != "restart" or as_silence(incident).symptom != SILENCE:
        return ""
    if incident.target.removeprefix("instance:") in answer.found_ended:
        return "it had ended"
    begun = incident.symptom == CRASH_LOOP or any(note.what in _TRIED for note in incident.timeline)
    return "" if begun or not incident.boot_id or answer.outcome != "done" else "it hung"


def _free(state: State) -> bool:
    """Whether restarts in the loop are ours to order."""
    return unbidden("restart", None, state.thresholds)


def look(incident: Incident, state: State, quiet: Verdict) -> Verdict:
    """`quiet` is what the count of deaths says. Nobody who is away is well, however long ago they died; a restart that
    brought them back is not held to have failed while the deaths before it still count."""
    life = state.lives.by_name.get(incident.target.removeprefix("instance:"))
    away, another = silent(incident, state), life is not None and incident.boot_id not in ("", life.boot_id)
    if quiet.finding is Finding.WELL:
        # Of whom a watchdog that just begun has not heard, it cannot say that they are there.
        unheard = life is not None and not life.heard
        return Verdict(Finding.OPEN) if away or unheard else quiet
    if quiet.finding is not Finding.OPEN or incident.state != "commanded" or life is None:
        return quiet
    if away:
        return Verdict(Finding.OPEN, "the new process ended too" if another else "")
    return Verdict(Finding.WAIT, f"a new process is ready (boot {life.boot_id})" if (
        another and life.state == READY) else "")
