"""What a fault came to: whether it was seen, rightly named, healed, and what it cost; pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from deploy.chaos.plan import Expected, matches

Incident = Mapping[str, Any]
OPEN = ("SUSPECTED", "COMMANDED", "ESCALATED")
HEALED = "VERIFIED"
ALSO = "also: "
"""Begins what an incident's timeline says of another symptom of its cause."""
_SLACK_S = 0.5
"""Clocks of one machine, and times told in whole milliseconds."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the watchdog said of a fault. Seconds since it was struck; None for what did not happen."""

    detected_s: float | None = None
    cause: str = ""
    right: bool = False
    actions: tuple[str, ...] = ()
    healed_s: float | None = None
    escalated: bool = False
    symptoms: frozenset[str] = frozenset()
    others: tuple[str, ...] = ()
    """Causes of incidents that were not expected, with what was done about them."""


def seconds(text: str) -> float:
    """Seconds since the epoch of an RFC 3339 time."""
    return datetime.fromisoformat(text).timestamp()


def concerns(incident: Incident, pipeline: str, ignored: Sequence[str]) -> bool:
    """Whether it is looked at: what is wrong with another pipeline's data or model is no matter of a run."""
    return incident["pipeline"] in ("", pipeline) and not matches(incident["cause"], tuple(ignored))


def look(expected: Expected | None, incidents: Sequence[Incident], struck_at: float) -> Seen:
    """What is known now; symptoms that were seen before do not count, be they noted on an incident or its first."""
    shown = sorted(((at, kind, one) for one in incidents for kind, at in _symptoms(one) if at >= struck_at - _SLACK_S),
                   key=lambda showing: showing[0])
    new = _once(one for _, _, one in shown)
    wanted = [showing for showing in shown if expected is not None and _fits(expected, showing[1])]
    ours = _once(one for _, _, one in wanted)
    others = tuple(f"{one['cause']} ({', '.join(_actions(one)) or one['symptom']})" for one in new if one not in ours)
    if not ours:
        return Seen(others=others)
    named = next((one for one in ours if expected is not None and matches(one["cause"], expected.cause)), None)
    told = named or ours[0]
    healed = all(one["state"] == HEALED for one in ours)
    return Seen(
        detected_s=max(0.0, wanted[0][0] - struck_at), cause=told["cause"], right=named is not None,
        actions=tuple(action for one in ours for action in _actions(one)),
        healed_s=max(seconds(one["closed_at"]) for one in ours) - struck_at if healed else None,
        escalated=any(event["what"] == "escalated" for one in ours for event in one["timeline"]),
        symptoms=frozenset(kind for _, kind, _ in wanted), others=others)


def is_over(expected: Expected | None, seen: Seen) -> bool:
    """Whether nothing more is waited for; of a control all of its time is, for what is not to be seen."""
    if expected is None or set(expected.must) - seen.symptoms:
        return False
    return seen.healed_s is not None or (not expected.healed and seen.detected_s is not None)


def shortcomings(expected: Expected | None, seen: Seen) -> list[str]:
    """What is not as the plan expects; empty where all is."""
    if expected is None:
        return [f"nothing was to be seen, and {other} was" for other in seen.others]
    found = []
    if seen.detected_s is None:
        return ["it was not detected"]
    if seen.detected_s > expected.detected_s:
        found.append(f"detected in {seen.detected_s:.1f} s, not {expected.detected_s:g}")
    found += [f"{symptom} was not seen" for symptom in expected.must if symptom not in seen.symptoms]
    if expected.cause and not seen.right:
        found.append(f"{seen.cause} was blamed, not {' or '.join(expected.cause)}")
    if expected.healed and seen.healed_s is None:
        found.append("it was not healed")
    elif expected.healed and seen.healed_s is not None and seen.healed_s > expected.healed_s:
        found.append(f"healed in {seen.healed_s:.1f} s, not {expected.healed_s:g}")
    return found


def _fits(expected: Expected, symptom: str) -> bool:
    return not expected.symptom or symptom in (*expected.symptom, *expected.must)


def _symptoms(incident: Incident) -> list[tuple[str, float]]:
    """The kind it was opened for and those noted on it since, each with the time it was seen."""
    return [(incident["symptom"], seconds(incident["opened_at"])),
            *((event["what"].removeprefix(ALSO), seconds(event["at"])) for event in incident["timeline"]
              if event["what"].startswith(ALSO))]


def _once(incidents: Iterable[Incident]) -> list[Incident]:
    """In their order, each the first time only."""
    found: list[Incident] = []
    for one in incidents:
        if not any(one is known for known in found):
            found.append(one)
    return found


def _actions(incident: Incident) -> list[str]:
    return [event["what"].removeprefix("commanded ") for event in incident["timeline"]
            if event["what"].startswith("commanded ")]
