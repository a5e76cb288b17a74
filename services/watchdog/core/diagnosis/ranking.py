"""The causes a symptom may have, ranked: by what it says itself, and by all else that is wrong below it."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from services.watchdog.core.diagnosis.tables import LIKELY, PARAMETERS, PART_OF, SURGE
from services.watchdog.core.diagnosis.training import BLAMED, diverged
from services.watchdog.core.state import State
from services.watchdog.core.symptom import (
    BUS,
    IDLE,
    OF_HOSTS,
    OVERLOAD,
    POOR_FEEDBACK,
    QUALITY_LOSS,
    SLOW_DEPENDENCY,
    SLOW_MODEL,
    TRAINING_FAILURE,
    Symptom,
)

# What else is wrong counts for less than the symptom itself: it may only stand beside it.
BESIDE = 0.8
# A version that came so lately is the first to be asked about what came after it.
YOUNG_S = 300.0
YOUNG = 0.7
ABUSER = 0.9
SAID = 0.9
SHOWN = 3
SHOWN_ABOVE = 5


@dataclass(slots=True)
class Likely:
    """A class of cause. `confidence`: its part of all that the evidence speaks for, 0 to 1."""

    name: str
    doubt: float = 1.0
    """How likely all of the evidence is there without it; each piece by itself (a noisy or, Pearl 1988)."""
    evidence: list[str] = field(default_factory=list)
    confidence: float = 0.0

    def add(self, chance: float, shown: str) -> None:
        self.doubt *= 1 - chance
        self.evidence.append(shown)


def ranked(symptom: Symptom, seen: Iterable[Symptom], state: State, now: float) -> list[Likely]:
    """Classes of causes, the likeliest first; equally likely ones by name. Confidences sum to 1."""
    found: dict[str, Likely] = {}

    def speak(kind: str, weight: float, shown: str) -> None:
        for name, chance in LIKELY[kind].items():
            found.setdefault(name, Likely(name)).add(chance * weight, shown)

    speak(symptom.kind, 1.0, f"{symptom.kind}: {symptom.detail}")
    for other in seen:
        if other != symptom and bears(other, symptom, state):
            speak(other.kind, BESIDE, f"{other.kind}: {other.detail}")
    age_s = now - state.promoted.get(symptom.pipeline, float("-inf"))
    if PARAMETERS in found and symptom.kind in (QUALITY_LOSS, POOR_FEEDBACK, SLOW_MODEL) and age_s < YOUNG_S:
        found[PARAMETERS].add(YOUNG, f"version {symptom.version} answers since {age_s:.0f} s")
    run = state.runs.get(symptom.pipeline)
    if symptom.kind == TRAINING_FAILURE and run is not None and run.failure in BLAMED:
        # Who ran it knows better than what is usual.
        found[BLAMED[run.failure]].add(SAID, f"the trainer says {run.failure}: {run.name}")
    if symptom.kind == QUALITY_LOSS and run is not None and diverged(run):
        found[PARAMETERS].add(SAID, f"run {run.run_id} diverged")
    abuser = state.abuser(symptom.pipeline) if symptom.kind == OVERLOAD else None
    if abuser is not None:
        found[SURGE].add(ABUSER, abuser.told)
    total = sum(1 - one.doubt for one in found.values())
    for one in found.values():
        one.confidence = (1 - one.doubt) / total
    return sorted(found.values(), key=lambda one: (-one.confidence, one.name))


def bears(other: Symptom, symptom: Symptom, state: State) -> bool:
    """Whether `other` shows in something that what `symptom` shows in depends on, or in the same."""
    if other.pipeline and symptom.pipeline and other.pipeline != symptom.pipeline:
        return False
    if other.about == BUS or other.kind in OF_HOSTS:
        return True
    mine, its = node(symptom, state), node(other, state)
    if mine and its and mine != its and (state.graph.hangs_on(mine, its) or state.graph.mutual(mine, its)):
        return True
    return part(other, state) == part(symptom, state) and _same(other, symptom)


def part(symptom: Symptom, state: State) -> str:
    """Which part of the platform it shows in."""
    known = PART_OF.get(symptom.kind)
    if known is not None:
        return known
    if symptom.about == BUS:
        return "broker"
    life = state.lives.by_name.get(symptom.about.partition("/")[0])
    return life.service if life is not None else ""


def node(symptom: Symptom, state: State) -> str:
    """What it shows in, as the graph of dependencies names it; "" where nobody knows."""
    about = symptom.about.partition("/")[0]
    if symptom.kind == SLOW_DEPENDENCY and about in state.lives.by_name:
        return about
    shown = part(symptom, state)
    return about if shown and about in state.lives.by_name and symptom.kind not in PART_OF else shown


def root(symptom: Symptom, seen: Iterable[Symptom], state: State) -> str:
    """In words, which sick part the most of what is sick hangs on, of those that this symptom's own part hangs on.

    "" where processes have told nothing of whom they call, or nothing else is wrong above or below.
    """
    if not state.graph.observed:
        return ""
    hangs_on, mine = state.graph.hangs_on, node(symptom, state)
    sick = {node(one, state) for one in (symptom, *seen) if one.kind != IDLE and one.kind not in OF_HOSTS} - {""}
    above = {part: sorted(other for other in sick if other != part and hangs_on(other, part))
             for part in sick if part == mine or hangs_on(mine, part)}
    if not any(above.values()):
        return ""
    # In a circle two may have as many above them: the one that the others are found to hang on, then the first by name.
    first = min(above, key=lambda part: (-len(above[part]), -sum(part in below for below in (
        state.graph.below(one) for one in above)), part))
    return f"root {first}, on which hang {', '.join(above[first][:SHOWN_ABOVE])}"


def _same(other: Symptom, symptom: Symptom) -> bool:
    """Of two symptoms of one service, only those of one process say something of each other."""
    return other.pipeline == symptom.pipeline if symptom.pipeline else (
        other.about.partition("/")[0] == symptom.about.partition("/")[0])


def told(causes: list[Likely]) -> str:
    """The ranking in words."""
    return "; ".join(f"{one.name} {one.confidence:.0%} ({', '.join(one.evidence)})" for one in causes[:SHOWN])
