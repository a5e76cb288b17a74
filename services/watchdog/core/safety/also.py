"""Symptoms of one cause that are one incident: which are noted on the one that is open, and when all of it is well."""

import math
from collections.abc import Callable, Collection, Mapping
from typing import Final

from msgspec.structs import replace

from services.watchdog.core import incident as life
from services.watchdog.core.diagnose import cause, target
from services.watchdog.core.inputs import Incident, Tick
from services.watchdog.core.safety import renewing
from services.watchdog.core.safety.afterwards import REPLAY
from services.watchdog.core.safety.policy import only_told
from services.watchdog.core.safety.rung import Rung
from services.watchdog.core.safety.verdict import Finding, Verdict
from services.watchdog.core.state import State
from services.watchdog.core.symptom import (
    AVAILABILITY,
    CRASH_LOOP,
    DRIFT,
    FILES,
    LATENCY,
    LEAK,
    SILENCE,
    UNUSUAL_ROWS,
    Symptom,
)

_CURED_TOGETHER: Final = frozenset({AVAILABILITY, LATENCY, LEAK, FILES})
"""Kinds that the same action ends, about as fast: where one goes on, it did not cure the other either."""
_BESIDE: Final[Mapping[str, str]] = {AVAILABILITY: LATENCY, LATENCY: AVAILABILITY, LEAK: FILES, FILES: LEAK,
                                     UNUSUAL_ROWS: DRIFT, DRIFT: UNUSUAL_ROWS}
"""Kinds that one cause may show as, either first. Of the rest of what shares a cause, `docs/watchdog/incidents.md` says
why each is an incident of its own."""
SAME_TROUBLE_S: Final = 600.0
"""So long after a person was told, what else shows of the same cause is the same trouble; later it is worth telling."""
_NEEDED: Final = "a person is needed"
ANEW: Final = "it was quiet meanwhile, and as it comes back it is an incident of its own"


# What would be done about an incident, step by step; and what the signals say of it at a tick.
LadderOf = Callable[[Incident, State], tuple[Rung, ...]]
LookAt = Callable[[Incident, State, Tick], Verdict]


def home(symptom: Symptom, among: Mapping[str, Incident], before: Collection[tuple[str, str]], state: State,
         tick: Tick, ladder: LadderOf) -> Incident | None:
    """The incident `among` those that are open that a symptom belongs to; None where it opens its own.

    `before`: the (kind, cause) pairs that stood at the tick before. What goes on since it was noted stays where it is:
    a version that is promoted meanwhile did not bring it. What comes back is weighed anew, and to one that a person has
    it is told anew.
    """
    incident = among.get(f"{_BESIDE.get(symptom.kind, '')}:{cause(symptom)}")
    if incident is None:
        return None
    if symptom.kind in incident.also:
        ours = not _back(symptom.kind, incident, before) or (
            not _handed_over(incident) and _fits(symptom, incident, state, tick, ladder))
    else:
        ours = _fits(symptom, incident, state, tick, ladder)
    return incident if ours else None


def came_back(incident: Incident, before: Collection[tuple[str, str]], state: State, tick: Tick) -> bool:
    """Whether what it was opened for, and is seen now, was quiet while something else of it went on, and nothing of the
    incident would be done about it: a person has that one, or it deals with a version that was left since."""
    return _back(incident.symptom, incident, before) and (
        _handed_over(incident) or not _of_the_champion(incident, state, tick))


def _back(kind: str, incident: Incident, before: Collection[tuple[str, str]]) -> bool:
    """Whether a kind of the incident was quiet while another of it went on. Where all of it was, it would have ended:
    nothing was known, or its process was away, and then that it is seen is no news."""
    stood = [one for one in (incident.symptom, *incident.also) if (one, incident.cause) in before]
    return bool(stood) and kind not in stood and incident.verdict != renewing.AWAY


def _fits(symptom: Symptom, incident: Incident, state: State, tick: Tick, ladder: LadderOf) -> bool:
    """Whether nothing that would be done about the symptom is lost when no incident is opened for it."""
    if REPLAY in (incident.action, incident.awaiting):
        # That one is quiet by now, and only its dead letters are on their way.
        return False
    if not _of_the_champion(incident, state, tick):
        return False
    alone = life.opened(symptom.kind, incident.cause, target(symptom), symptom.pipeline, symptom.detail, tick)
    wanted, taken = ladder(alone, state), ladder(incident, state)
    rules = state.rules.get(symptom.pipeline)
    if rules is not None and not {symptom.kind, incident.symptom}.isdisjoint(rules.replay_after):
        # Dead letters go back when the one is quiet, however long the other lasts.
        return False
    idle = not wanted or bool(only_told(alone, wanted[0].action, rules, state.thresholds))
    if _handed_over(incident):
        return idle and _told_lately(incident, tick) and (symptom.kind in _CURED_TOGETHER or not taken)
    if not wanted:
        # A step that is under way has its time to show; what it may not cure is told at once.
        return not taken
    return bool(taken) and taken == ladder(replace(incident, symptom=symptom.kind), state)


def _handed_over(incident: Incident) -> bool:
    """Whether it takes no more steps."""
    return incident.state == life.ESCALATED and not incident.awaiting


def _of_the_champion(incident: Incident, state: State, tick: Tick) -> bool:
    """Whether what was commanded for it, if anything, was about the version that is champion now: about a newer one it
    does nothing. By the time of its promotion too, as one that takes over knows no version of what was commanded."""
    model = state.models.get(incident.pipeline)
    if not incident.command_ids or model is None:
        return True
    promoted = state.promoted.get(incident.pipeline, -math.inf)
    return incident.from_version == model.champion and tick.wall_s - incident.decided_s <= tick.monotonic_s - promoted


def _told_lately(incident: Incident, tick: Tick) -> bool:
    told_s = max((note.at_s for note in incident.timeline if note.what == life.ESCALATED), default=incident.opened_s)
    return tick.wall_s - told_s <= SAME_TROUBLE_S


def noted(incident: Incident, symptom: Symptom, tick: Tick) -> Incident:
    """With the symptom and its evidence; the same where it was noted before."""
    if symptom.kind in incident.also:
        return incident
    return replace(life.noted(incident, life.ALSO + symptom.kind, symptom.detail, tick),
                   also=(*incident.also, symptom.kind))


def word(incident: Incident) -> str:
    """What a person is told of the symptom that was noted last, with all they were told before: each message may be the
    only one that is read. Empty where nobody was told of the incident yet."""
    first, now = incident.timeline[0].detail, f"also {incident.also[-1]}: {incident.timeline[-1].detail}"
    if incident.awaiting:
        return f"{incident.verdict}: `lepton incidents approve {incident.id}` or `deny`; {first}; {now}"
    if incident.state == life.ESCALATED:
        return f"{_NEEDED}: {first}; {incident.verdict}; {now}"
    return f"{incident.action} of {incident.target}: {first}; {now}" if incident.state == life.COMMANDED else ""


def needed(incident: Incident, why: str, state: State) -> str:
    """What a person is told when no more steps are taken: what it was opened for, what else of it stands, and why."""
    others = [_told(incident, kind) for kind in incident.also if (kind, incident.cause) in state.standing]
    shown = (incident.timeline[0].detail, *(one for one in others if one not in why))
    return f"{_NEEDED}: {'; '.join(shown)}; {why}"


def _told(incident: Incident, kind: str) -> str:
    return next(f"{kind}: {note.detail}" for note in incident.timeline if note.what == life.ALSO + kind)


def related(opened: Incident, among: Collection[Incident], tick: Tick) -> Incident:
    """A new incident that names those of the same cause that are open; the silence of a crash loop is part of it."""
    parts = {SILENCE} if opened.symptom == CRASH_LOOP else set()
    told = "; ".join(f"{one.symptom} of the same cause: {one.id}" for one in among
                     if one.cause == opened.cause and one.symptom not in parts)
    return life.noted(opened, "related", told, tick) if told else opened


def look(incident: Incident, among: Collection[str], state: State, tick: Tick, one: LookAt) -> Verdict:
    """Well once all its symptoms are, but for one that came back as an incident of its own: `among` are the keys of
    those that are open."""
    verdict = one(incident, state, tick)
    ours = [kind for kind in incident.also if f"{kind}:{incident.cause}" not in among]
    if verdict.finding is not Finding.WELL or not ours:
        return verdict
    for kind in ours:
        other = one(replace(incident, symptom=kind), state, tick)
        if other.finding is not Finding.WELL:
            return Verdict(other.finding, "; ".join(filter(None, (_told(incident, kind), other.why))))
    return Verdict(Finding.WELL, f"{verdict.why}, and so is {' and '.join(ours)}")


def spread(incidents: Collection[Incident], state: State) -> Collection[Incident]:
    """The incidents once for each of their symptoms that stands: what it explains is explained, and no longer. Where
    none does, as what it was opened for, as of any that is quiet and not well yet."""
    if not any(one.also for one in incidents):
        return incidents
    return [replace(one, symptom=kind) for one in incidents for kind in _shown(one, state)]


def _shown(incident: Incident, state: State) -> Collection[str]:
    kinds = (incident.symptom, *incident.also)
    standing = [kind for kind in kinds if (kind, incident.cause) in state.standing]
    return standing or (incident.symptom,)


def remembered(incident: Incident, state: State) -> tuple[str, ...]:
    """The kinds noted on an incident from the store; as far as is known, all of it stood until now."""
    kinds = life.also(incident)
    state.standing |= {(kind, incident.cause) for kind in (incident.symptom, *kinds) if kinds}
    return kinds
