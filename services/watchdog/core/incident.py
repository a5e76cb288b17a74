"""The life of an incident: suspected, commanded, verified, escalated; which step may follow, and what is noted."""

import hashlib
from collections.abc import Mapping

from msgspec.structs import replace

from services.watchdog.core.inputs import Answered, Incident, Note, Tick

SUSPECTED, COMMANDED, VERIFIED, ESCALATED = "suspected", "commanded", "verified", "escalated"

# Verified is the end; a symptom that comes back is a new incident.
FOLLOWS: dict[str, frozenset[str]] = {
    SUSPECTED: frozenset({COMMANDED, VERIFIED, ESCALATED}),
    COMMANDED: frozenset({COMMANDED, VERIFIED, ESCALATED}),
    ESCALATED: frozenset({COMMANDED, VERIFIED, ESCALATED}),
    VERIFIED: frozenset(),
}

# A document stays small however long an incident lasts: its beginning and its latest notes are kept.
FIRST_NOTES, LAST_NOTES = 10, 40
ALSO = "also: "
"""Begins the note of another symptom of the same cause; none of these is left out."""


def opened(symptom: str, cause: str, target: str, pipeline: str, detail: str, tick: Tick,
           began: float | None = None) -> Incident:
    """A new incident; its id follows from what it is about and when, so a replay gives the same. `began`: monotonic."""
    seed = f"{symptom}:{cause}@{tick.wall_s:.3f}"
    return Incident(
        id="inc-" + hashlib.sha256(seed.encode()).hexdigest()[:16], symptom=symptom, cause=cause, target=target,
        pipeline=pipeline, state=SUSPECTED, opened_s=tick.wall_s, since=tick.monotonic_s,
        began_s=0.0 if began is None else tick.wall_s - (tick.monotonic_s - began),
        timeline=(Note(tick.wall_s, "opened", detail),))


def commanded(incident: Incident, command_id: str, what: str, verify_s: float, tick: Tick) -> Incident:
    """The next rung was taken: `what` was commanded, to be proven within `verify_s`."""
    return _move(incident, COMMANDED, f"commanded {what}", command_id, tick, decided_s=tick.wall_s,
                 command_ids=(*incident.command_ids, command_id), rung=incident.rung + 1, action=what,
                 commanded_at=tick.monotonic_s, deadline=tick.monotonic_s + verify_s, answered="",
                 awaiting="", approve_by_s=0.0)


def verified(incident: Incident, verdict: str, tick: Tick) -> Incident:
    return _move(incident, VERIFIED, "verified", verdict, tick, closed_s=tick.wall_s, verdict=verdict,
                 awaiting="", approve_by_s=0.0)


def asked(incident: Incident, action: str, within_s: float, tick: Tick) -> Incident:
    """`action` waits for a person's word for `within_s`."""
    return _move(incident, ESCALATED, "asked", action, tick, verdict=f"{action} waits for a person's word",
                 awaiting=action, approve_by_s=tick.wall_s + within_s)


def escalated(incident: Incident, verdict: str, tick: Tick) -> Incident:
    """The ladder ended: a person has to act. The incident stays open until its symptom is gone."""
    return _move(incident, ESCALATED, "escalated", verdict, tick, verdict=verdict, awaiting="", approve_by_s=0.0)


def answered(incident: Incident, answer: Answered, found: str, tick: Tick) -> Incident:
    """The executor of the latest command answered; `found`: what that says of the fault, in words."""
    detail = "; ".join(one for one in (answer.evidence, found) if one)
    return noted(replace(incident, answered=answer.outcome), f"answered {answer.outcome}", detail, tick)


def taken(incident: Incident) -> tuple[str, ...]:
    """The actions that were commanded for it, in order."""
    return tuple(note.what.removeprefix(COMMANDED + " ") for note in incident.timeline
                 if note.what.startswith(COMMANDED + " "))


def following(actions: tuple[str, ...], incident: Incident, can: Mapping[str, bool]) -> tuple[str, ...]:
    """The actions that were taken for it, then those of a ladder that come after them and can be done."""
    before = taken(incident)
    for action in before:
        actions = actions[actions.index(action) + 1:] if action in actions else actions
    return (*before, *(action for action in actions if can[action]))


def part(incident: Incident) -> str:
    """The one source or field of a pipeline that is the cause; empty where it is the data as a whole."""
    return incident.cause.partition("/")[2]


def noted(incident: Incident, what: str, detail: str, tick: Tick) -> Incident:
    """Something worth telling happened; the state stays."""
    timeline = (*incident.timeline, Note(tick.wall_s, what, detail))
    if len(timeline) > FIRST_NOTES + LAST_NOTES:
        spare = next(place for place in range(FIRST_NOTES, len(timeline)) if not timeline[place].what.startswith(ALSO))
        timeline = timeline[:spare] + timeline[spare + 1:]
    return replace(incident, timeline=timeline)


def also(incident: Incident) -> tuple[str, ...]:
    """The other symptoms of its cause that were noted on it, from the timeline: what the store has of them."""
    return tuple(note.what.removeprefix(ALSO) for note in incident.timeline if note.what.startswith(ALSO))


def _move(incident: Incident, state: str, what: str, detail: str, tick: Tick, **changes: object) -> Incident:
    if state not in FOLLOWS[incident.state]:
        raise ValueError(f"{state} does not follow {incident.state}")
    return noted(replace(incident, state=state, **changes), what, detail, tick)
