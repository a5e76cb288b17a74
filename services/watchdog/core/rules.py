"""Which signals are symptoms: thresholds as data, one function a kind of symptom."""

from collections.abc import Iterable

from services.watchdog.core.inputs import Tick
from services.watchdog.core.quality.schemas import SHOWN, Renamed, Schemas
from services.watchdog.core.signals import Life, Lives
from services.watchdog.core.state import State
from services.watchdog.core.symptom import (
    BAD_LABELS,
    BROKEN_DATA,
    BROKEN_FIELD,
    BUS,
    CUT_OFF,
    DRIFT,
    LINE_STOPPED,
    NO_LABELS,
    NO_ROWS,
    QUALITY_LOSS,
    SCHEMA_CHANGE,
    SILENCE,
    SURGE,
    TRAINING_FAILURE,
    UNUSUAL_ROWS,
    Symptom,
)

# What waited while a pipeline was paused comes at once, and is more than usual for as long.
PAUSED_S = 60.0


def symptoms(state: State, tick: Tick) -> list[Symptom]:
    """All that is wrong at this tick, worst first."""
    now = tick.monotonic_s
    return [*silence(state, now), *stopped_lines(state), *broken_data(state, now), *quality_loss(state),
            *state.unusable.symptoms(state.models, now), *state.estimates.symptoms(now),
            *state.feedback.symptoms(state.models),
            *training_failures(state), *loads(state, now),
            *state.promises.symptoms(now), *state.speeds.symptoms(state.models),
            *state.dependencies.symptoms(now), *state.kept.symptoms(now), *state.outside.symptoms(state.rules)]


def loads(state: State, now: float) -> list[Symptom]:
    """What is unusual of rows, answers, logged errors and the load of processes and machines."""
    return [*(one for one in state.patterns.symptoms(now) if not _settling(one, state, now)),
            *state.refusals.symptoms(), *state.usage.symptoms(now), *state.lines.symptoms(now)]


def _settling(symptom: Symptom, state: State, now: float) -> bool:
    """Whether it is too early to say: what is unusual of rows may soon be called a broken field or broken data by name,
    and a pipeline that was paused has no rows, then more than usual."""
    rules, sources = state.rules[symptom.pipeline], state.sources.get(symptom.pipeline)
    if symptom.kind in (NO_ROWS, NO_LABELS, SURGE):
        return state.pauses.lately(symptom.pipeline, now, PAUSED_S + rules.volume.over_s)
    if symptom.kind not in (UNUSUAL_ROWS, DRIFT) or sources is None:
        return False
    since = sources.alone_since
    return (since is not None and now - since < rules.broken.after_s) or (
        symptom.pipeline in state.fields and state.fields[symptom.pipeline].suspect(now))


def silence(state: State, now: float) -> list[Symptom]:
    """Silent processes, those cut off from the bus told apart; or the bus itself.

    It is blamed when all are silent together, or nothing comes back to ourselves.
    """
    lives, limits = state.lives, state.thresholds
    if lives.stalled_s(now) > limits.silence_s:
        return [Symptom(SILENCE, BUS, "our own heartbeats do not come back", began=lives.stalled_since)]
    if not lives.may_judge(now):
        return []
    if lives.all_silent(now):
        return [Symptom(SILENCE, BUS, "every other process fell silent at once")]
    if lives.all_overdue(now):
        return []
    return [_silent(life, lives, now) for life in lives.others() if lives.silent(life, now)]


def _silent(life: Life, lives: Lives, now: float) -> Symptom:
    told = f"no heartbeat for {now - life.heard_at:.1f} s"
    # Of one that was never heard, nobody knows whether it ever ran.
    began = life.heard_at if life.heard else None
    if lives.cut_off(life, now):
        return Symptom(CUT_OFF, life.instance, f"{told}, but it answers at its own door", boot_id=life.boot_id,
                       began=began)
    return Symptom(SILENCE, life.instance, told, boot_id=life.boot_id, began=began)


def stopped_lines(state: State) -> list[Symptom]:
    """Pipelines whose line a dead-letter limit stopped, and processes it stopped in what belongs to no pipeline."""
    lines: dict[str, str] = {}
    others = []
    for life in state.lives.others():
        for work, why in life.stopped.items():
            pipeline = pipeline_of(work)
            if pipeline in state.rules:
                lines.setdefault(pipeline, why)
        if life.line_stopped and not any(pipeline_of(work) in state.rules for work in life.stopped):
            others.append(Symptom(LINE_STOPPED, life.instance, life.line_stopped, boot_id=life.boot_id))
    return [*(Symptom(LINE_STOPPED, name, why, name) for name, why in sorted(lines.items())), *others]


def pipeline_of(work: str) -> str:
    """The pipeline in the name of a check: `accept shop`."""
    return work.rpartition(" ")[2]


def broken_data(state: State, now: float) -> list[Symptom]:
    """Sources whose rows are bad, or the field that is; when every source is bad for long, the data as a whole."""
    found = []
    for name, sources in sorted(state.sources.items()):
        rules = state.rules.get(name)
        if rules is None:
            continue
        bad, alone = sources.bad(rules, now), sources.alone(rules, now)
        by_source = [Symptom(BROKEN_DATA, name, f"{share.value:.0%} of {share.rows} rows of {source} are bad"
                             f"{_form(state, name, [source], now)}", name, source)
                     for source, share in bad.items() if source not in alone]
        # One source that is to blame for a field is the smaller thing to do without.
        by_field = [] if by_source else broken_fields(state, name, now)
        found += [*by_source, *by_field]
        lasts_s = now - sources.alone_since if sources.alone_since is not None else 0.0
        if alone and lasts_s >= rules.broken.after_s and not by_field:
            told = ", ".join(f"{source} ({share.value:.0%} bad)" for source, share in alone.items())
            # To quarantine them would stop the pipeline.
            found.append(Symptom(BROKEN_DATA, name, f"no other source delivers good rows besides {told}; "
                                 f"{sources.turned_away:.0%} of all are turned away{_form(state, name, alone, now)}",
                                 name, began=sources.alone_since))
    return found


def _form(state: State, name: str, sources: Iterable[str], now: float) -> str:
    """What the form of events of these sources says of why their rows are bad; empty where it is as usual."""
    schemas = state.schemas.get(name, Schemas())
    told = (schemas.changed(source, now) for source in sources)
    return next((f"; their form changed: {one}" for one in told if one), "")


def broken_fields(state: State, name: str, now: float) -> list[Symptom]:
    """The field of a pipeline that broke while the others are well, or goes under another name. One that rows need and
    are refused for without that is told of by the rows."""
    fields, spared = state.fields.get(name), state.rules[name].broken.fields
    if fields is None:
        return []
    schemas, found = state.schemas.get(name, Schemas()), list[Symptom]()
    for one, how in fields.broken(now):
        seen, renamed = fields.by_name[one], schemas.renamed(one, now)
        if renamed.names and not seen.quarantined:
            found.append(_renamed(name, one, renamed, how, needed=not spared.get(one)))
        elif spared.get(one) or seen.displaced or seen.stuck:
            kind = schemas.kind(one, now)
            told = f"field {one}: {how}" + (f"; {kind}" if kind and not seen.quarantined else "")
            found.append(Symptom(BROKEN_FIELD, name, told, name, field=one))
    return found


def _renamed(name: str, field: str, renamed: Renamed, how: str, *, needed: bool) -> Symptom:
    """Says what a person may do about it: that two names stand for the same nobody else can know."""
    came = " or ".join(renamed.names[:SHOWN])
    told = (f"field {field} went, {came} came in its place (of {renamed.sampled} sampled events); {how}. If it is the "
            f"same: have it sent as {field} again, map it by `rename` where the source is pulled, or declare "
            f"{renamed.names[0]} in events.fields instead")
    return Symptom(SCHEMA_CHANGE, name, told, name, field=field, needed=needed)


def quality_loss(state: State) -> list[Symptom]:
    """Champions that answer worse on labelled predictions than when they were published, or labels that are wrong."""
    found = []
    for name, window in sorted(state.windows.items()):
        loss, model, turned = state.loss(name), state.models.get(name), state.turned.get(name)
        if turned is not None and turned.standing and model is not None:
            found.append(Symptom(BAD_LABELS, name, turned.standing, name, version=model.champion))
        elif turned is not None and turned.waits:
            continue
        elif loss is not None and loss.lost and model is not None:
            found.append(Symptom(QUALITY_LOSS, name, loss.text(window.rule.metric), name, version=model.champion))
    return found


def training_failures(state: State) -> list[Symptom]:
    """Models whose latest run failed."""
    return [Symptom(TRAINING_FAILURE, model, f"run {run.run_id} failed: {run.why}", model, command_id=run.command_id)
            for model, run in sorted(state.runs.items()) if run.state == "failed"]
