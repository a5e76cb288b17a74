"""An incident as a course of steps, with the three times by which healing is judged."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from lepton.contracts.pb.incidents_pb2 import Incident, IncidentEvent, IncidentState

COMMANDED, ANSWERED, ALSO = "commanded ", "answered ", "also: "
FIRST_NOTES = 10
"""So many are always kept; what a long incident loses lies behind them. Notes of other symptoms stay as well."""


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds; None where it cannot be said: nothing of the kind happened (yet), or nobody knows when."""

    detect_s: float | None
    """From the first sign to the opening of the incident."""
    decide_s: float | None
    """From the opening to the first command."""
    heal_s: float | None
    """From the first command to the proof that all is well."""


@dataclass(frozen=True, slots=True)
class Action:
    """One command and what came of it. `answered`: the executor's word, empty without one."""

    at_s: float
    name: str
    command_id: str
    answered: str
    outcome: str


def seconds(incident: Incident, field: str) -> float | None:
    """A time of the incident in seconds since the epoch; None where it is not set."""
    return getattr(incident, field).ToNanoseconds() / 1e9 if incident.HasField(field) else None  # type: ignore[arg-type]


def at_s(event: IncidentEvent) -> float:
    return event.at.ToNanoseconds() / 1e9


def times(incident: Incident) -> Times:
    """How long it took to detect, to decide, and to heal."""
    began, opened, closed = (seconds(incident, field) for field in ("began_at", "opened_at", "closed_at"))
    # Of a long incident the note of the first command may be gone, and another is not it.
    first = next((at_s(event) for event in incident.timeline if event.what.startswith(COMMANDED) and event.at.seconds
                  and event.detail == incident.command_ids[0]), None) if incident.command_ids else None
    if first is None and len(incident.command_ids) == 1:
        first = seconds(incident, "decided_at")
    return Times(_between(began, opened), _between(opened, first), _between(first, closed))


def actions(incident: Incident) -> list[Action]:
    """The commands in their order, each with what its executor answered and what followed, as far as notes are kept."""
    events = list(incident.timeline)
    places = [place for place, event in enumerate(events) if event.what.startswith(COMMANDED)]
    # What followed the last one before the notes that are gone is not known.
    gap = FIRST_NOTES if len(places) < len(incident.command_ids) else 0
    found = []
    for place, then in pairwise([*places, len(events)]):
        end = min(then, gap) if place < gap else then
        event, after = events[place], events[place + 1:end]
        word = next((one for one in after if one.what.startswith(ANSWERED)), None)
        told = "" if word is None else word.what.removeprefix(ANSWERED) + (f": {word.detail}" if word.detail else "")
        found.append(Action(at_s(event), event.what.removeprefix(COMMANDED), event.detail, told,
                            "not known" if end < then else _outcome(incident, after, end == len(events))))
    return found


def _outcome(incident: Incident, after: Sequence[IncidentEvent], is_last: bool) -> str:
    for event in reversed(after):
        if event.what == "verified":
            return f"well again: {event.detail}"
        if event.what == "escalated":
            return f"a person was needed: {event.detail}"
        if event.what == "helped":
            return f"helped: {event.detail}"
    if not is_last:
        return "not proven in time, the next step followed"
    return "not proven yet" if incident.state != IncidentState.INCIDENT_STATE_VERIFIED else "the incident ended"


def _between(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else round(end - start, 3)
