"""What training runs say of a model's parameters, and what that leaves of a ladder with trainings in it."""

from collections.abc import Mapping
from typing import Final

from services.watchdog.core.diagnosis.tables import DATA, PARAMETERS, RESOURCES
from services.watchdog.core.incident import following, taken
from services.watchdog.core.inputs import Incident, RunEnded
from services.watchdog.core.state import State

TRAININGS: Final = frozenset({"retrain", "tune", "fine_tune"})
"""Actions that end in a version of its own."""
DIVERGED: Final = frozenset({"exploding_gradients", "nan_loss"})
"""Failures that other parameters may spare a run; of the others of their class, somebody asked for what cannot be."""
BLAMED: Final[Mapping[str, str]] = {"data": DATA, "parameter": PARAMETERS, "resource": RESOURCES}
"""Class of cause, by the class that the trainer says of a failure."""
OWN: Final = frozenset({"rows", "recovery"})
"""Reasons of runs that learn as the Pipeline says. Who asks for a run may give it parameters, and looks at its end."""
# A gate that keeps out what learnt from fewer rows than that says little: they may be too few, or partly of the world
# before. The loss itself is judged by one window.
FRESH_WINDOWS = 2
# When nothing is said of how many labels quality is judged by.
WINDOW = 100


def diverged(run: RunEnded | None) -> bool:
    """Whether it ended so with the Pipeline's parameters."""
    return run is not None and run.state == "failed" and run.name in DIVERGED and run.reason in OWN


def ours(run: RunEnded | None, incident: Incident) -> bool:
    """Whether it is the run that was commanded last for the incident."""
    return run is not None and bool(incident.command_ids) and run.command_id.endswith(incident.command_ids[-1])


def at_fault(incident: Incident, state: State) -> str:
    """Why its model's parameters are to blame, in words; empty where nothing says so.

    Either the newest run diverged, or the training that was commanded for the incident learnt from enough fresh rows,
    nothing is wrong with the data, and the gate kept the candidate out all the same.
    """
    run = state.runs.get(incident.pipeline)
    if run is None:
        return ""
    if diverged(run):
        return f"run {run.run_id} diverged: {run.why}"
    if run.state != "rejected" or not ours(run, incident) or incident.action not in TRAININGS:
        return ""
    rules = state.rules.get(incident.pipeline)
    window = rules.quality.window if rules is not None and rules.quality is not None else WINDOW
    if run.rows < FRESH_WINDOWS * window or _bad_data(incident.pipeline, state):
        return ""
    return f"run {run.run_id} was rejected ({run.why}) with {run.rows} fresh rows, and nothing is wrong with the data"


def _bad_data(pipeline: str, state: State) -> bool:
    return any(cause.partition("/")[0] == f"data:{pipeline}" for _, cause in state.standing)


def of_loss(actions: tuple[str, ...], incident: Incident, state: State) -> tuple[str, ...]:
    """Where there is no version to go back to, what follows takes the place; rungs that were tried keep theirs.

    Where parameters are to blame and a tune lies ahead, trainings with the same parameters are stepped over.
    """
    model = state.models.get(incident.pipeline)
    before, back = "tune" in taken(incident), model is not None and model.previous > 0
    if before or ("tune" in actions[incident.rung:] and at_fault(incident, state)):
        return following(actions, incident, {"roll_back": back, "retrain": before, "fine_tune": before, "tune": True})
    if back:
        return actions
    found = []
    for place, action in enumerate(actions):
        if action == "roll_back" and place >= incident.rung:
            action = next((later for later in actions[place:] if later != "roll_back"), "")
        if action:
            found.append(action)
    return tuple(found)


def of_failure(actions: tuple[str, ...], incident: Incident, state: State) -> tuple[str, ...]:
    """After a run that failed: a tune only where it diverged, a fine-tune only where there is a champion."""
    model = state.models.get(incident.pipeline)
    if incident.pipeline not in state.rules:
        return ()
    return following(actions, incident, {
        "tune": diverged(state.runs.get(incident.pipeline)), "retrain": True,
        "fine_tune": model is not None and model.champion > 0})
