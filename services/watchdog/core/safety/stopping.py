"""A training that is under way while labels are found wrong is ended: it may have read them, and what it makes of them
would answer. Labels tell this late only where they came seldom, or few of them showed it at first."""

from services.watchdog.core.diagnosis.training import TRAININGS
from services.watchdog.core.inputs import Incident
from services.watchdog.core.orders.command import Command
from services.watchdog.core.state import State

STOPPED, COMMANDED, ANSWERED = "stopped", "commanded ", "answered "
# A run that reads them still ends minutes later; what it was ordered for may take as long.
STOP_S = 300.0


def due(incident: Incident, state: State) -> tuple[str, str]:
    """A training that was ordered for the incident and neither answered nor stopped yet, where labels are wrong, and
    how they are; empty otherwise. By its notes, which another watchdog that takes it up has too: the latest order is
    not the only one, as a training that takes its time is not waited for."""
    waiting: list[str] = []
    latest = ""
    for note in incident.timeline:
        if note.what.startswith(COMMANDED):
            latest = note.detail
            waiting += [latest] if note.what.removeprefix(COMMANDED) in TRAININGS else []
        elif note.what.startswith(ANSWERED):
            waiting = [one for one in waiting if one != latest]
        elif note.what == STOPPED:
            waiting = [one for one in waiting if not note.detail.startswith(f"what {one} ")]
    wrong = state.labels_wrong(incident.pipeline) if waiting else ""
    return (waiting[0], wrong) if wrong else ("", "")


def told(ordered: str, wrong: str) -> str:
    return f"what {ordered} trains is not wanted: {wrong}"


def command(incident: Incident, ordered: str) -> Command:
    """The order to end it; its id follows from that of the order it ends."""
    return Command(f"{ordered}-cancel", "cancel", f"model:{incident.pipeline}", {"command_id": ordered}, incident.cause,
                   incident.id, STOP_S)
