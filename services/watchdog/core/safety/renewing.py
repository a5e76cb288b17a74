"""A process that still worked and was begun anew in order: when that is over, and what its quiet signal shows then.

A process that ends in order says goodbye: nobody expects it any more, and what it measured is forgotten soon. So the
signal falls quiet whether or not another process takes its place, and of one that is gone no silence tells.
"""

from typing import Final

from services.watchdog.core.incident import COMMANDED, ESCALATED, taken
from services.watchdog.core.inputs import READY, Incident
from services.watchdog.core.safety.verdict import Finding, Verdict
from services.watchdog.core.signals import FORGET_S, Life
from services.watchdog.core.state import State
from services.watchdog.core.symptom import CUT_OFF

RENEWS: Final = frozenset({"drain", "restart"})
"""Actions that take a process away for a while."""
AWAY: Final = "no process is ready since it was told to begin anew"
"""Why it was left to a person, where it did not come back: a process that is ready ends that incident, or LEFT_S."""
BACK: Final = "a process is ready again, and what was wrong of it goes on"
GOODBYE: Final = "it said goodbye: nobody expects it any more"
LEFT_S: Final = 3_600.0
"""Whom nobody began again for so long after its restart was ordered, they took out of service."""
LEFT: Final = f"nobody of its name came for {LEFT_S / 60:.0f} minutes: nobody expects it any more"


def look(incident: Incident, state: State, quiet: Verdict, now: float) -> Verdict:
    """`quiet` is what the signal says. Once a restart was commanded it is well only with a process that is ready: a new
    one, or the same one where the restart came to nothing and it is well by itself."""
    if quiet.finding is Finding.WAIT or "restart" not in taken(incident):
        return quiet
    life = ready(incident, state, now)
    failed = incident.answered in ("refused", "failed")
    if life is None:
        if quiet.finding is Finding.WELL and _left_later(incident, state):
            return Verdict(Finding.WELL, GOODBYE)
        if quiet.finding is Finding.WELL and _left_for_good(incident, state, now):
            return Verdict(Finding.WELL, LEFT)
        return Verdict(Finding.WORSE if failed else Finding.OPEN, AWAY)
    if quiet.finding is not Finding.WELL:
        return quiet
    if incident.boot_id not in ("", life.boot_id):
        return Verdict(Finding.WELL, f"{quiet.why}, and a new process is ready (boot {life.boot_id})")
    return quiet if failed or incident.state != COMMANDED or now >= incident.deadline else Verdict(Finding.OPEN)


def departed(incident: Incident, state: State, now: float) -> Verdict:
    """What it shows that a process that was silent or cut off said goodbye. Of one that was cut off, which works, its
    restart may be why: then another one is to be ready."""
    ordered = incident.symptom == CUT_OFF and "restart" in taken(incident)
    if not ordered or not (incident.state == COMMANDED or incident.verdict == AWAY):
        return Verdict(Finding.WELL, GOODBYE)
    if not state.lives.may_judge(now):
        return Verdict(Finding.WAIT)
    if _left_for_good(incident, state, now):
        return Verdict(Finding.WELL, LEFT)
    failed = incident.state == COMMANDED and incident.answered in ("refused", "failed")
    return Verdict(Finding.WORSE if failed else Finding.OPEN, AWAY)


def ready(incident: Incident, state: State, now: float) -> Life | None:
    """Its process, the same or a new one, where one is ready."""
    life = state.lives.by_name.get(incident.target.removeprefix("instance:"))
    heard = life is not None and life.heard and life.state == READY and not state.lives.silent(life, now)
    return life if heard else None


def _left_later(incident: Incident, state: State) -> bool:
    """Whether it was there when the time of its restart was over, and left since: who ended it knows of it."""
    return gone(incident, state) and incident.state == ESCALATED and incident.verdict != AWAY


def _left_for_good(incident: Incident, state: State, now: float) -> bool:
    """Whether a person, who was told that it did not come back, left it at that."""
    return (gone(incident, state) and incident.state == ESCALATED and incident.verdict == AWAY
            and now - incident.commanded_at >= LEFT_S)


def back(incident: Incident, state: State, now: float) -> bool:
    """Whether one that did not come back, as a person was told, is there after all once its time is over. What it was
    begun anew for goes on, and its next goodbye is somebody else's doing."""
    return (incident.state == ESCALATED and incident.verdict == AWAY and now >= incident.deadline
            and ready(incident, state, now) is not None)


def under_way(incident: Incident, state: State, now: float) -> bool:
    """Whether its process may go away, or went away for this incident and has not come back. One that is there and not
    ready shows that by itself; of one that is away for long, a person knows."""
    if not RENEWS.intersection(taken(incident)[-1:]):
        return False
    if incident.state == COMMANDED and now < incident.deadline:
        return True
    if not gone(incident, state):
        return False
    known_s = incident.commanded_at + state.thresholds.renew_verify_s + FORGET_S
    return incident.state == COMMANDED or (incident.verdict == AWAY and now < known_s)


def gone(incident: Incident, state: State) -> bool:
    """Whether its process said goodbye, so that nobody expects it."""
    life = state.lives.by_name.get(incident.target.removeprefix("instance:"))
    return life is None or life.leaving
