"""What messages mean to the core, and what an incident of the core is on the wire."""

from collections.abc import Mapping

from google.protobuf.timestamp_pb2 import Timestamp

from lepton.contracts.pb import incidents_pb2, models_pb2, outcomes_pb2, quality_pb2, telemetry_pb2, training_pb2
from lepton.contracts.pipeline import Pipeline
from services.watchdog.core.inputs import (
    Announced,
    Beat,
    Incident,
    ModelSeen,
    Note,
    QualityRule,
    RowsSeen,
    Rules,
    RunEnded,
    SourceRows,
)

LINE_STOPPED = "line_stopped"

ENDED: Mapping["training_pb2.RunState.ValueType", str] = {
    training_pb2.RUN_STATE_SUCCEEDED: "succeeded",
    training_pb2.RUN_STATE_REJECTED: "rejected",
    training_pb2.RUN_STATE_FAILED: "failed",
    training_pb2.RUN_STATE_CANCELLED: "cancelled",
}
STATES: Mapping[str, "incidents_pb2.IncidentState.ValueType"] = {
    "suspected": incidents_pb2.INCIDENT_STATE_SUSPECTED,
    "commanded": incidents_pb2.INCIDENT_STATE_COMMANDED,
    "verified": incidents_pb2.INCIDENT_STATE_VERIFIED,
    "escalated": incidents_pb2.INCIDENT_STATE_ESCALATED,
}
_NAMES = {number: name for name, number in STATES.items()}


def beat(message: telemetry_pb2.Telemetry, lag_s: float | None) -> Beat:
    stopped = next((error.message for error in message.errors if error.kind == LINE_STOPPED), "")
    # What a check says begins with the kind of failure; see Care.fail.
    standing = {name: why.removeprefix(f"{LINE_STOPPED}: ") for name, why in sorted(message.failing_checks.items())
                if why.startswith(f"{LINE_STOPPED}: ")}
    return Beat(message.instance, message.service, message.boot_id, _state(message.state), stopped, lag_s, standing)


def announced(name: str, message: telemetry_pb2.Instance | None) -> Announced:
    return Announced(name, gone=True) if message is None else Announced(name, message.service, _state(message.state))


def rules(pipeline: Pipeline) -> Rules:
    quality, data, heal = pipeline.watch.quality, pipeline.watch.data, pipeline.heal
    rule = None
    if quality is not None and quality.metric is not None and pipeline.task is not None:
        rule = QualityRule(quality.metric, quality.window, quality.min_labels, quality.drop)
    return Rules(pipeline.name, quality=rule, bad_share=data.bad_share, window_s=data.window_s,
                 min_rows=data.min_rows, budget_actions=heal.budget.actions, budget_per_s=heal.budget.per_s,
                 cool_down_s=heal.cool_down_s, notify=heal.notify)


def model(state: models_pb2.ModelState) -> ModelSeen:
    champion = next((one.manifest for one in state.versions if one.version == state.champion), None)
    metrics = dict(champion.metrics) if champion is not None else {}
    held_out = champion.lineage.held_out_rows if champion is not None else 0
    return ModelSeen(state.model, state.revision, state.champion, state.previous_champion, metrics, held_out)


def rows(summary: quality_pb2.QualitySummary, now_s: float) -> RowsSeen:
    age_s = max(0.0, now_s - _seconds(summary.interval_end))
    return RowsSeen(summary.pipeline, tuple(
        SourceRows(one.source, one.accepted, one.rejected, one.outliers, one.missing) for one in summary.sources),
        age_s)


def run_ended(progress: training_pb2.TrainingProgress) -> RunEnded | None:
    """None while the run goes on."""
    state = ENDED.get(progress.state)
    if state is None:
        return None
    return RunEnded(progress.model, progress.run_id, state, progress.failure.message, progress.command_id)


def truth(outcome: outcomes_pb2.Outcome) -> str | float:
    """The label: a number, or text as a model answers with."""
    kind = outcome.WhichOneof("label")
    if kind == "flag":
        return "true" if outcome.flag else "false"
    return outcome.category if kind == "category" else outcome.number


def to_message(incident: Incident) -> incidents_pb2.Incident:
    """Everything of an incident but the engine's working memory."""
    message = incidents_pb2.Incident(
        incident_id=incident.id, state=STATES[incident.state], symptom=incident.symptom, cause=incident.cause,
        target=incident.target, pipeline=incident.pipeline, command_ids=incident.command_ids,
        verdict=incident.verdict, opened_at=_stamp(incident.opened_s))
    for field, at_s in ((message.decided_at, incident.decided_s), (message.closed_at, incident.closed_s)):
        if at_s:
            field.CopyFrom(_stamp(at_s))
    for note in incident.timeline:
        message.timeline.add(at=_stamp(note.at_s), what=note.what, detail=note.detail)
    return message


def from_message(message: incidents_pb2.Incident) -> Incident:
    actions = [one.what.removeprefix("commanded ") for one in message.timeline if one.what.startswith("commanded ")]
    return Incident(
        id=message.incident_id, symptom=message.symptom, cause=message.cause, target=message.target,
        pipeline=message.pipeline, state=_NAMES[message.state], opened_s=_seconds(message.opened_at),
        decided_s=_seconds(message.decided_at), closed_s=_seconds(message.closed_at),
        timeline=tuple(Note(_seconds(one.at), one.what, one.detail) for one in message.timeline),
        command_ids=tuple(message.command_ids), verdict=message.verdict, action=actions[-1] if actions else "")


def _state(state: "telemetry_pb2.InstanceState.ValueType") -> str:
    return telemetry_pb2.InstanceState.Name(state).removeprefix("INSTANCE_STATE_").lower()


def _stamp(at_s: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromMilliseconds(round(at_s * 1000))
    return stamp


def _seconds(stamp: Timestamp) -> float:
    return stamp.ToMilliseconds() / 1000
