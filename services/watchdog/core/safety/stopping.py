"""A training that is under way while labels are found wrong is ended: it may have read them, and what it makes of them
would answer. Labels tell this late only where they came seldom, or few of them showed it at first."""

from services.watchdog.core.diagnosis.training import TRAININGS
from services.watchdog.core.inputs import Incident
from services.watchdog.core.orders.command import Command
from services.watchdog.core.state import State

STOPPED, COMMANDED, ANSWERED = "stopped", "commanded ", "answered "
# A run that reads them still ends minutes later; what it was ordered for may take as long.
STOP_S = 300.0


def due(incident: Incident, state: State) -> str:
    """How labels are wrong, where a training that was ordered for the incident was neither answered nor stopped yet;
    empty otherwise. By its notes, which another watchdog that takes it up has too."""
    actions = [place for place, note in enumerate(incident.timeline) if note.what.startswith(COMMANDED)]
    if not actions or not incident.command_ids:
        return ""
    since = [note.what for note in incident.timeline[actions[-1]:]]
    under_way = since[0].removeprefix(COMMANDED) in TRAININGS and not any(
        what == STOPPED or what.startswith(ANSWERED) for what in since)
    return state.labels_wrong(incident.pipeline) if under_way else ""


def told(incident: Incident, wrong: str) -> str:
    return f"what {incident.command_ids[-1]} trains is not wanted: {wrong}"


def command(incident: Incident) -> Command:
    """The order to end it; its id follows from that of the order it ends."""
    ordered = incident.command_ids[-1]
    return Command(f"{ordered}-cancel", "cancel", f"model:{incident.pipeline}", {"command_id": ordered}, incident.cause,
                   incident.id, STOP_S)

