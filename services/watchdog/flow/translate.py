"""What messages mean to the core, and what an incident of the core is on the wire."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping

from google.protobuf.timestamp_pb2 import Timestamp

from lepton.contracts import names
from lepton.contracts.pb import incidents_pb2, models_pb2, outcomes_pb2, quality_pb2, telemetry_pb2, training_pb2
from lepton.contracts.pipeline import Pipeline
from services.watchdog.core.inputs import (
    Alerted,
    Announced,
    Beat,
    Called,
    ClientsSeen,
    Failures,
    Incident,
    Lines,
    ModelSeen,
    Note,
    Requests,
    Rules,
    RunEnded,
    Unusable,
)
from services.watchdog.core.summaries.counts import FieldRows, JointRows, MemberRows, RowsSeen, SchemaRows, SourceRows
from services.watchdog.core.thresholds.limits import (
    BrokenRule,
    DriftRule,
    FeedbackRule,
    Ladders,
    QualityRule,
    SharesRule,
    SloRule,
    VolumeRule,
)

LINE_STOPPED = "line_stopped"
MAX_TOLD = 200
"""Letters of a failure's message that are kept."""

ALERT_NAME = "alertname"
ABOUT, SUMMARY = ("instance", "service", "job"), ("summary", "description", "message")
"""Labels and annotations that say what an outside alert is about and what is wrong: the first that is there."""

GATEWAY, PREDICTOR = "gateway", "predictor"
MORE_MS = 1e9
BUSY = "Busy"
"""Outcome of requests that found no room: RESOURCE_EXHAUSTED to the caller."""
SHED = "Shed"
"""Outcome of requests turned away for their priority, by command: the same to the caller, and nobody's failure."""
FAULTS_OF_CALLERS = frozenset({"Invalid", "Missing", "Refused", "cancelled"})
"""Outcomes of requests that are nobody's failure but the caller's."""

_TOLD: Mapping[str, tuple[str, int]] = {
    names.MEMORY_SHARE: ("", 2), names.FILES_SHARE: ("", 2), names.WAITING_ROWS: ("", 0),
    names.HOST_CPU_SHARE: ("host", 2), names.HOST_MEMORY_SHARE: ("host", 2), names.HOST_DISK_SHARE: ("host", 2),
    names.HOST_GPU_MEMORY_SHARE: ("gpu", 2), names.CERTIFICATE_DAYS: ("certificate", 1),
    names.CONSUMER_LAG: ("topic", 0), names.DATABASE_SECONDS: ("", 1), names.UNREACHED_SECONDS: ("predictor", 0),
    names.LOST_DOCUMENTS: ("collection", 0), names.BACKUP_AGE_HOURS: ("backup", 1), names.PAUSED: ("pipeline", 0)}
"""The figures that are judged: the attribute that says what each is about (none: the process itself), and its digits.
"""

WAYS: Mapping["telemetry_pb2.CallWay.ValueType", str] = {
    telemetry_pb2.CALL_WAY_REQUEST: "request",
    telemetry_pb2.CALL_WAY_DATABASE: "database",
    telemetry_pb2.CALL_WAY_WRITE: "write",
    telemetry_pb2.CALL_WAY_READ: "read",
}

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
    return Beat(message.instance, message.service, message.boot_id, _state(message.state), stopped, lag_s, standing,
                message.drained)


def readings(message: telemetry_pb2.Telemetry) -> dict[tuple[str, str], float]:
    """What was measured, by name and by what it is about, as exact as it is judged."""
    found: dict[tuple[str, str], float] = {}
    for one in message.measurements:
        name = one.name
        told = _TOLD.get(name)
        if told is not None:
            about, digits = told
            found[(name, one.attributes[about] if about else "")] = round(one.value, digits)
    return found


def requests(message: telemetry_pb2.Telemetry) -> Iterator[Requests]:
    """What a predictor answered since its heartbeat before, by model."""
    if message.service != PREDICTOR:
        return
    counted: dict[str, tuple[int, int, dict[float, int]]] = {}
    refused, shed = Counter[str](), Counter[str]()
    levels: dict[str, list[tuple[int, bool, int]]] = {}
    for one in message.measurements:
        if one.name not in (names.PREDICTION_REQUESTS, names.PREDICTION_TIMES, names.LEVEL_REQUESTS):
            continue
        model, count = one.attributes["model"], round(one.value)
        if one.name == names.LEVEL_REQUESTS:
            level, named = int(one.attributes["level"]), one.attributes["named"] == "true"
            levels.setdefault(model, []).append((level, named, count))
            continue
        ok, failed, times = counted.get(model, (0, 0, {}))
        if one.name == names.PREDICTION_TIMES:
            told = one.attributes["up_to_ms"]
            up_to_ms = float(told) if told != "more" else MORE_MS
            times[up_to_ms] = times.get(up_to_ms, 0) + count
        elif one.attributes["outcome"] == SHED:
            shed[model] += count
        elif one.attributes["outcome"] not in FAULTS_OF_CALLERS:
            well = one.attributes["outcome"] == "ok"
            ok, failed = ok + count * well, failed + count * (not well)
            refused[model] += count * (one.attributes["outcome"] == BUSY)
        counted[model] = ok, failed, times
    for model in counted | levels:
        ok, failed, times = counted.get(model, (0, 0, {}))
        if ok or failed or times or shed[model] or model in levels:
            yield Requests(model, ok, failed, tuple(sorted(times.items())), refused[model], shed[model],
                           tuple(sorted(levels.get(model, ()))))


def clients(message: telemetry_pb2.Telemetry) -> ClientsSeen | None:
    """Whose requests a gateway took since its heartbeat before; None where there were none."""
    if message.service != GATEWAY:
        return None
    asked = tuple((one.attributes["model"], one.attributes["key"], round(one.value))
                  for one in message.measurements if one.name == names.KEY_REQUESTS)
    throttled = tuple((one.attributes["key"], round(one.value))
                      for one in message.measurements if one.name == names.KEY_THROTTLED)
    return ClientsSeen(asked, throttled) if asked or throttled else None


def unusable(message: telemetry_pb2.Telemetry) -> Iterator[Unusable]:
    """Versions that a predictor complains of."""
    for one in message.measurements:
        if one.name == names.UNSOUND_ROWS:
            yield Unusable(message.instance, one.attributes["model"], int(one.attributes["version"]),
                           rows=round(one.value))
        elif one.name == names.REFUSED_VERSION and one.value:
            yield Unusable(message.instance, one.attributes["model"], int(one.value),
                           refused=one.attributes["reason"][:MAX_TOLD], lost=one.attributes.get("lost", ""))


def failures(message: telemetry_pb2.Telemetry) -> Failures | None:
    if not message.errors:
        return None
    return Failures(message.instance, message.service,
                    tuple((one.kind, one.count, one.message[:MAX_TOLD]) for one in message.errors))


def lines(message: telemetry_pb2.Telemetry) -> Lines | None:
    if not message.patterns:
        return None
    return Lines(message.instance, message.service,
                 tuple((one.pattern[:MAX_TOLD], one.level, one.count, one.trace_id) for one in message.patterns))


def called(message: telemetry_pb2.Telemetry) -> Called | None:
    """Ways that this release does not know say nothing."""
    told = tuple((WAYS[one.way], one.callee, one.count, one.failed, round(one.seconds, 3))
                 for one in message.calls if one.way in WAYS)
    return Called(message.instance, message.service, told) if told else None


def alerted(message: telemetry_pb2.Telemetry) -> Iterator[Alerted]:
    """What other monitoring systems said to a gateway."""
    for one in message.alerts:
        labels, notes = one.labels, one.annotations
        about = next((labels[name] for name in ABOUT if name in labels), "")
        summary = next((notes[name] for name in SUMMARY if notes.get(name)), labels[ALERT_NAME])
        yield Alerted(one.fingerprint, f"{labels[ALERT_NAME]}/{about}" if about else labels[ALERT_NAME],
                      labels.get("severity", ""), labels.get("pipeline", ""), summary[:MAX_TOLD], _seconds(one.ends_at))


def announced(name: str, message: telemetry_pb2.Instance | None) -> Announced:
    return Announced(name, gone=True) if message is None else Announced(
        name, message.service, _state(message.state), address=message.address)


def rules(pipeline: Pipeline) -> Rules:
    quality, data, heal = pipeline.watch.quality, pipeline.watch.data, pipeline.heal
    rule = None
    if quality is not None and quality.metric is not None and pipeline.task is not None:
        rule = QualityRule(quality.metric, quality.window, quality.min_labels, quality.drop)
    return Rules(pipeline.name, quality=rule, bad_share=data.bad_share, window_s=data.window_s,
                 min_rows=data.min_rows, budget_actions=heal.budget.actions, budget_per_s=heal.budget.per_s,
                 cool_down_s=heal.cool_down_s, notify=heal.notify,
                 drift=DriftRule(**pipeline.watch.drift.model_dump()),
                 shares=SharesRule(**pipeline.watch.shares.model_dump()),
                 volume=VolumeRule(**pipeline.watch.volume.model_dump()),
                 feedback=FeedbackRule(**pipeline.watch.feedback.model_dump()),
                 slo=SloRule(**pipeline.watch.slo.model_dump()) if pipeline.watch.slo is not None else None,
                 dry_run=heal.dry_run, approval=heal.approval, approval_s=heal.approval_s,
                 ladders=Ladders(**heal.ladders.model_dump()), replay_after=heal.replay_after,
                 replicas=(pipeline.serve.replicas.min, pipeline.serve.replicas.max),
                 partitions=pipeline.events.partitions, broken=_broken(pipeline),
                 maintenance=tuple(one.minutes for one in heal.maintenance))


def _broken(pipeline: Pipeline) -> BrokenRule:
    """Of fields that say who an event is of, or when it was, nothing is judged; rows that would be dropped without a
    field cannot do without it."""
    data, heal = pipeline.watch.data, pipeline.heal
    kept = {pipeline.events.id, pipeline.events.entity_member, pipeline.events.time}
    fields = {name: name in pipeline.optional_fields and pipeline.missing_policy(name).kind != "drop"
              for name in pipeline.fields if name not in kept}
    return BrokenRule(
        fields, {name: _meant(pipeline, name) for name in fields}, data.field_share, data.turned_away, data.after_s,
        heal.quarantined_fields, heal.restore_after_s, heal.resume_after_s, heal.resume_longest_s)


def _meant(pipeline: Pipeline, name: str) -> str:
    """Changes with what the values of that field mean, and with which of them count as good."""
    told = json.dumps([pipeline.fields[name].model_dump(mode="json"), pipeline.clean.outliers.model_dump(mode="json"),
                       pipeline.missing_policy(name).kind == "drop"], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def model(state: models_pb2.ModelState) -> ModelSeen:
    champion = next((one.manifest for one in state.versions if one.version == state.champion), None)
    metrics = dict(champion.metrics) if champion is not None else {}
    held_out = champion.lineage.held_out_rows if champion is not None else 0
    return ModelSeen(state.model, state.revision, state.champion, state.previous_champion, metrics, held_out)


def counted(summary: quality_pb2.QualitySummary, now_s: float) -> RowsSeen:
    """How many rows came, and nothing else of it."""
    accepted, rejected = (sum(getattr(one, name) for one in summary.sources) for name in ("accepted", "rejected"))
    return RowsSeen(summary.pipeline, (SourceRows("", accepted, rejected, 0, 0),), _age_s(summary, now_s), brief=True)


def _age_s(summary: quality_pb2.QualitySummary, now_s: float) -> float:
    return max(0.0, now_s - _seconds(summary.interval_end))


def rows(summary: quality_pb2.QualitySummary, now_s: float) -> RowsSeen:
    return RowsSeen(summary.pipeline, tuple(
        SourceRows(one.source, one.accepted, one.rejected, one.outliers, one.missing) for one in summary.sources),
        _age_s(summary, now_s), tuple(_field(one) for one in summary.fields),
        summary.duplicates + summary.content_duplicates, summary.late,
        _joint(summary.joint) if summary.HasField("joint") else None,
        tuple(_schema(one) for one in summary.schemas))


def _schema(told: quality_pb2.SchemaQuality) -> SchemaRows:
    return SchemaRows(told.source, told.sampled, *(
        tuple(MemberRows(one.member, one.count, one.kind) for one in members)
        for members in (told.undeclared, told.absent, told.mistyped)))


def _field(told: quality_pb2.FieldQuality) -> FieldRows:
    """Numbers to six digits: a journal holds them, and nothing depends on more."""
    edges, counts = told.histogram.edges, told.histogram.counts
    histogram = (tuple(_short(one) for one in edges), tuple(_short(one) for one in counts))
    return FieldRows(told.field, told.missing, told.invalid, _short(told.mean), _short(told.std), histogram,
                     tuple((one.value, one.count) for one in told.top if one.value), told.sketched, told.present,
                     told.outliers, _short(told.distinct), told.quarantined, told.incident_id)


def _joint(told: quality_pb2.JointQuality) -> JointRows:
    return JointRows(tuple(told.fields), told.rows, tuple(round(one, 3) for one in told.correlations))


def _short(value: float) -> float:
    return float(f"{value:.6g}")


def run_ended(progress: training_pb2.TrainingProgress) -> RunEnded | None:
    """None while the run goes on."""
    state = ENDED.get(progress.state)
    if state is None:
        return None
    failure = progress.failure
    named = training_pb2.FailureClass.Name(failure.failure_class).removeprefix("FAILURE_CLASS_").lower() if (
        failure.failure_class) else ""
    return RunEnded(progress.model, progress.run_id, state, failure.message, progress.command_id, named, failure.name,
                    progress.rows, progress.reason)


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
        verdict=incident.verdict, opened_at=_stamp(incident.opened_s), awaiting=incident.awaiting)
    for field, at_s in ((message.decided_at, incident.decided_s), (message.closed_at, incident.closed_s),
                        (message.approve_by, incident.approve_by_s), (message.began_at, incident.began_s)):
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
        command_ids=tuple(message.command_ids), verdict=message.verdict, awaiting=message.awaiting,
        approve_by_s=_seconds(message.approve_by), action=actions[-1] if actions else "",
        began_s=_seconds(message.began_at))


def _state(state: "telemetry_pb2.InstanceState.ValueType") -> str:
    return telemetry_pb2.InstanceState.Name(state).removeprefix("INSTANCE_STATE_").lower()


def _stamp(at_s: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromMilliseconds(round(at_s * 1000))
    return stamp


def _seconds(stamp: Timestamp) -> float:
    return stamp.ToMilliseconds() / 1000
