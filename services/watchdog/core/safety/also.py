"""Symptoms of one cause that are one incident: which are noted on the one that is open, and when all of it is well."""

from collections.abc import Callable, Collection, Mapping
from typing import Final

from msgspec.structs import replace

from services.watchdog.core import incident as life
from services.watchdog.core.diagnose import cause, target
from services.watchdog.core.inputs import Incident, Tick
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
ANEW: Final = "it was quiet meanwhile, and as it comes back it is an incident of its own"


# What would be done about an incident, step by step; and what the signals say of it at a tick.
LadderOf = Callable[[Incident, State], tuple[Rung, ...]]
LookAt = Callable[[Incident, State, Tick], Verdict]


def home(symptom: Symptom, among: Mapping[str, Incident], before: Collection[tuple[str, str]], state: State,
         tick: Tick, ladder: LadderOf) -> Incident | None:
    """The incident `among` those that are open that a symptom belongs to; None where it opens its own.

    `before`: the (kind, cause) pairs that stood at the tick before. What goes on since it was noted stays where it is:
    a version that is promoted meanwhile did not bring it. What comes back to one that a person has is told anew.
    """
    incident = among.get(f"{_BESIDE.get(symptom.kind, '')}:{cause(symptom)}")
    if incident is None:
        return None
    if symptom.kind in incident.also:
        ours = (symptom.kind, incident.cause) in before or not _handed_over(incident)
    else:
        ours = _fits(symptom, incident, state, tick, ladder)
    return incident if ours else None


def came_back(incident: Incident, before: Collection[tuple[str, str]]) -> bool:
    """Whether what it was opened for, and is seen now, was quiet while something else of it went on: nobody looks at it
    any more but a person, who was told of the time before."""
    return bool(incident.also) and _handed_over(incident) and (incident.symptom, incident.cause) not in before


def _fits(symptom: Symptom, incident: Incident, state: State, tick: Tick, ladder: LadderOf) -> bool:
    """Whether nothing that would be done about the symptom is lost when no incident is opened for it."""
    if REPLAY in (incident.action, incident.awaiting):
        # That one is quiet by now, and only its dead letters are on their way.
        return False
    alone = life.opened(symptom.kind, incident.cause, target(symptom), symptom.pipeline, symptom.detail, tick)
    wanted, taken = ladder(alone, state), ladder(incident, state)
    rules = state.rules.get(symptom.pipeline)
    idle = not wanted or bool(only_told(alone, wanted[0].action, rules, state.thresholds))
    if _handed_over(incident):
        return idle and _told_lately(incident, tick) and (symptom.kind in _CURED_TOGETHER or not taken)
    if not wanted:
        return symptom.kind in _CURED_TOGETHER or not taken
    return bool(taken) and taken == ladder(replace(incident, symptom=symptom.kind), state)


def _handed_over(incident: Incident) -> bool:
    """Whether it takes no more steps."""
    return incident.state == life.ESCALATED and not incident.awaiting


def _told_lately(incident: Incident, tick: Tick) -> bool:
    told_s = max((note.at_s for note in incident.timeline if note.what == life.ESCALATED), default=incident.opened_s)
    return tick.wall_s - told_s <= SAME_TROUBLE_S


def noted(incident: Incident, symptom: Symptom, tick: Tick) -> Incident:
    """With the symptom and its evidence; the same where it was noted before."""
    if symptom.kind in incident.also:
        return incident
    return replace(life.noted(incident, life.ALSO + symptom.kind, symptom.detail, tick),
                   also=(*incident.also, symptom.kind))


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
            return other
    return Verdict(Finding.WELL, f"{verdict.why}, and so is {' and '.join(ours)}")


def spread(incidents: Collection[Incident]) -> Collection[Incident]:
    """The incidents once for each of their symptoms: what one that is noted explains is explained."""
    if not any(one.also for one in incidents):
        return incidents
    return [shown for one in incidents for shown in (one, *(replace(one, symptom=kind) for kind in one.also))]


def remembered(incident: Incident, state: State) -> tuple[str, ...]:
    """The kinds noted on an incident from the store; as far as is known, all of it stood until now."""
    kinds = tuple(note.what.removeprefix(life.ALSO) for note in incident.timeline if note.what.startswith(life.ALSO))
    state.standing |= {(kind, incident.cause) for kind in (incident.symptom, *kinds) if kinds}
    return kinds
