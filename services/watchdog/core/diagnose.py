"""What is blamed for a symptom, and which symptoms another one explains."""

from collections.abc import Iterable

from services.watchdog.core.incident import part
from services.watchdog.core.inputs import Incident
from services.watchdog.core.symptom import (
    ANSWER_DRIFT,
    AVAILABILITY,
    BAD_LABELS,
    BROKEN_DATA,
    BUS,
    CUT_OFF,
    DRIFT,
    ERRORS,
    ESTIMATED_LOSS,
    FAILURES,
    IDLE,
    LATENCY,
    LINE_STOPPED,
    LOST_FILE,
    NO_LABELS,
    NO_ROWS,
    OF_FIELDS,
    OF_HOSTS,
    OF_LOAD,
    OF_PROCESSES,
    OVERLOAD,
    POOR_FEEDBACK,
    QUALITY_LOSS,
    SCHEMA_CHANGE,
    SILENCE,
    SLOW_DEPENDENCY,
    SLOW_MODEL,
    SURGE,
    TOO_FEW,
    TOO_MUCH,
    TRAINING_FAILURE,
    UNUSABLE,
    UNUSUAL_ROWS,
    Symptom,
)

EFFECTS_OF_BAD_ROWS = frozenset({
    QUALITY_LOSS, BAD_LABELS, ESTIMATED_LOSS, POOR_FEEDBACK, DRIFT, ANSWER_DRIFT, UNUSUAL_ROWS})

BAD_ROWS = OF_FIELDS | {BROKEN_DATA}

EFFECTS_OF_SILENCE = frozenset({NO_ROWS, NO_LABELS, AVAILABILITY, LATENCY, ERRORS, IDLE, SLOW_MODEL}) | (
    OF_LOAD - {SURGE, TOO_FEW})
EFFECTS_OF_DEPENDENCIES = EFFECTS_OF_SILENCE | {FAILURES}
ROOTS = frozenset({CUT_OFF, SLOW_DEPENDENCY})

EFFECTS_OF_OVERLOAD = frozenset({AVAILABILITY, LATENCY})
EFFECTS_OF_SLOW_MODELS = EFFECTS_OF_OVERLOAD | {OVERLOAD}

RELIEVING = frozenset({"scale_out", "throttle", "shed"})

TOLD_TWICE = frozenset({FAILURES, ERRORS})
"""A failure that is reported is logged too."""


def cause(symptom: Symptom) -> str:
    """Class and component: `process:predictor-0`, `model:phishing`, `data:phishing/broken-sensor`, …"""
    match symptom.kind:
        case "silence":
            return symptom.about if symptom.about == BUS else f"process:{symptom.about}"
        case "cut_off":
            return f"{BUS}/{symptom.about}"
        case "slow_dependency":
            return f"dependency:{symptom.about}"
        case "lost_file":
            return f"dependency:store/{symptom.about}"
        case "lost_state":
            return f"dependency:{symptom.about}/state"
        case "line_stopped":
            return f"data:{symptom.about}" if symptom.pipeline else f"line:{symptom.about}"
        case "broken_data":
            return f"data:{symptom.about}/{symptom.source}" if symptom.source else f"data:{symptom.about}"
        case "broken_field" | "schema_change":
            return f"data:{symptom.about}/{symptom.field}"
        case "training_failure":
            return f"training:{symptom.about}"
        case kind if kind in OF_HOSTS:
            return f"resources:{kind}/{symptom.about}"
        case "drift" | "no_rows" | "unusual_rows":
            return f"data:{symptom.about}"
        case "no_labels" | "bad_labels":
            return f"data:{symptom.about}/labels"
        case "availability" | "latency":
            return f"serving:{symptom.about}"
        case "idle" | "too_few":
            return f"resources:{symptom.about}"
        case kind if kind in OF_LOAD:
            return f"surge:{symptom.about}"
        case "outside_alert":
            return f"outside:{symptom.about}"
        case "certificate":
            return f"dependency:certificate/{symptom.about}"
        case "dead_letters":
            return f"data:{symptom.about}"
        case kind if kind in OF_PROCESSES:
            return f"process:{symptom.about}"
    return f"model:{symptom.about}"


def target(symptom: Symptom) -> str:
    """What a command about it would be addressed to; also what cool-downs are counted by."""
    if symptom.service:
        return f"service:{symptom.service}"
    match symptom.kind:
        case "silence" if symptom.about == BUS:
            return BUS
        case "line_stopped" if symptom.pipeline:
            return f"pipeline:{symptom.about}"
        case "slow_dependency" | "lost_state":
            return f"dependency:{symptom.about}"
        case "silence" | "line_stopped" | "cut_off":
            return f"instance:{symptom.about}"
        case "broken_data" | "broken_field" | "schema_change" | "bad_labels" | "no_labels":
            return f"pipeline:{symptom.about}"
        case "no_rows" | "unusual_rows" | "surge" | "overload" | "availability" | "latency":
            return f"pipeline:{symptom.about}"
        case "outside_alert" | "certificate":
            return f"{symptom.kind.partition('_')[0]}:{symptom.about}"
        case kind if kind in OF_HOSTS:
            return f"host:{symptom.about}"
        case "lag" | "load_ahead":
            return f"instance:{symptom.about.partition('/')[0]}"
        case kind if kind in OF_PROCESSES:
            return f"instance:{symptom.about}"
    return f"model:{symptom.about}"


def explained(symptom: Symptom, open_incidents: Iterable[Incident]) -> bool:
    """Whether an incident that is open already accounts for it, so that acting on it would treat an effect.

    A bus fault explains every silence; a dependency that is away or slow, what hangs on it.
    Broken data that is not yet dealt with explains a loss of quality and whatever else is unusual of rows; a loss that
    labels show, one that is estimated; that, and a version that is none to answer with, poor feedback. Where a process
    is silent, rows and labels may only be late; where no rows come, or the line is stopped, no labels may come either.
    Fields that drifted explain answers that did; a model's file that is lost, requests for it that fail. A version that
    is being left because it is slow explains callers who wait or find no room; a version that came while there is too
    much to do is not called slow. Load on a service that just got another process waits for what that one takes off.
    That a run failed which was to heal something is that incident's.
    """
    for incident in open_incidents:
        if incident.cause == BUS and symptom.kind in (SILENCE, CUT_OFF) and symptom.about != BUS:
            return True
        if incident.symptom == SILENCE and symptom.kind in EFFECTS_OF_SILENCE:
            return True
        if {incident.symptom, symptom.kind} == TOLD_TWICE and incident.cause == cause(symptom):
            return True
        if incident.symptom in ROOTS and symptom.kind in EFFECTS_OF_DEPENDENCIES:
            return True
        if symptom.kind == SLOW_DEPENDENCY and incident.symptom == SILENCE and (
                incident.target == f"instance:{symptom.about.partition('/')[0]}"):
            return True
        if symptom.kind == CUT_OFF and incident.symptom == SILENCE and incident.target == target(symptom):
            return True
        if _relieved(symptom, incident):
            return True
        if incident.pipeline != symptom.pipeline:
            continue
        if incident.symptom in BAD_ROWS and _of_bad_rows(symptom, incident):
            return True
        if symptom.kind == NO_LABELS and incident.symptom in (NO_ROWS, LINE_STOPPED):
            return True
        if symptom.kind == AVAILABILITY and incident.symptom == LOST_FILE:
            return True
        if symptom.kind == ESTIMATED_LOSS and incident.symptom == QUALITY_LOSS:
            return True
        if symptom.kind == POOR_FEEDBACK and incident.symptom in (QUALITY_LOSS, UNUSABLE):
            return True
        if symptom.kind in EFFECTS_OF_SLOW_MODELS and incident.symptom == SLOW_MODEL:
            return incident.state != "escalated"
        if symptom.kind == SLOW_MODEL and incident.symptom == OVERLOAD:
            return True
        if symptom.kind == ANSWER_DRIFT and incident.symptom == DRIFT:
            return True
        if symptom.kind == TRAINING_FAILURE and any(map(symptom.command_id.endswith, incident.command_ids)):
            return True
    return False


def _of_bad_rows(symptom: Symptom, incident: Incident) -> bool:
    """Whether broken data or a broken field accounts for it: while it is dealt with and that has not shown its effect,
    or nothing is taken in. One field that is broken, and not left to a person, is all that is wrong of the data as a
    whole; so is one under another name while the pipeline is paused for it. What became of a field may be known only
    later: it is one trouble."""
    if symptom.kind == BROKEN_DATA:
        paused = incident.symptom == SCHEMA_CHANGE and incident.action == "pause"
        return incident.symptom in OF_FIELDS and not symptom.source and (incident.state != "escalated" or paused)
    if symptom.kind not in EFFECTS_OF_BAD_ROWS | OF_FIELDS:
        return False
    if symptom.kind in OF_FIELDS and incident.symptom in OF_FIELDS and incident.cause == cause(symptom):
        return True
    if symptom.kind in OF_FIELDS and incident.symptom == BROKEN_DATA and not part(incident):
        # A field that rows can do without is the smaller thing to deal with; one that they need is all that is wrong.
        return symptom.needed
    untouched = incident.symptom in OF_FIELDS and not incident.command_ids
    if (symptom.kind in (UNUSUAL_ROWS, DRIFT) and untouched) or (
            symptom.kind == UNUSUAL_ROWS and incident.symptom == BROKEN_DATA and not part(incident)):
        # It says the same again, and a person who was told of the one knows of the other.
        return True
    helped = incident.symptom in OF_FIELDS and any(note.what == "helped" for note in incident.timeline)
    return (incident.state != "escalated" and not helped) or incident.action == "pause"


def _relieved(symptom: Symptom, incident: Incident) -> bool:
    """Whether a scale-out, throttle or shed that is not yet judged may end it too; what was done ahead of need excuses
    no load that came."""
    if incident.state != "commanded" or incident.action not in RELIEVING or incident.symptom not in TOO_MUCH:
        return False
    if symptom.kind in EFFECTS_OF_OVERLOAD:
        return incident.symptom == OVERLOAD and incident.pipeline == symptom.pipeline
    return symptom.kind in OF_LOAD and incident.target == target(symptom)
