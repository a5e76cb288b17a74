"""Which signals are symptoms: thresholds as data, one function a kind of symptom."""

from services.watchdog.core.inputs import Tick
from services.watchdog.core.quality.loss import judge
from services.watchdog.core.signals import Life, Lives
from services.watchdog.core.state import State
from services.watchdog.core.symptom import (
    BROKEN_DATA,
    BUS,
    CUT_OFF,
    LINE_STOPPED,
    QUALITY_LOSS,
    SILENCE,
    TRAINING_FAILURE,
    Symptom,
)


def symptoms(state: State, tick: Tick) -> list[Symptom]:
    """All that is wrong at this tick, worst first."""
    now = tick.monotonic_s
    return [*silence(state, now), *stopped_lines(state), *broken_data(state, now), *quality_loss(state),
            *state.unusable.symptoms(state.models, now), *state.estimates.symptoms(now),
            *training_failures(state), *loads(state, now),
            *state.promises.symptoms(now), *state.speeds.symptoms(state.models),
            *state.dependencies.symptoms(now), *state.kept.symptoms(now), *state.outside.symptoms(state.rules)]


def loads(state: State, now: float) -> list[Symptom]:
    """What is unusual of rows, answers, logged errors and the load of processes and machines."""
    return [*state.patterns.symptoms(now), *state.refusals.symptoms(), *state.usage.symptoms(now),
            *state.lines.symptoms(now)]


def silence(state: State, now: float) -> list[Symptom]:
    """Silent processes, those cut off from the bus told apart; or the bus itself.

    It is blamed when all are silent together, or nothing comes back to ourselves.
    """
    lives, limits = state.lives, state.thresholds
    if lives.stalled_s(now) > limits.silence_s:
        return [Symptom(SILENCE, BUS, "our own heartbeats do not come back")]
    if not lives.may_judge(now):
        return []
    if lives.all_silent(now):
        return [Symptom(SILENCE, BUS, "every other process fell silent at once")]
    if lives.all_overdue(now):
        return []
    return [_silent(life, lives, now) for life in lives.others() if lives.silent(life, now)]


def _silent(life: Life, lives: Lives, now: float) -> Symptom:
    told = f"no heartbeat for {now - life.heard_at:.1f} s"
    if lives.cut_off(life, now):
        return Symptom(CUT_OFF, life.instance, f"{told}, but it answers at its own door", boot_id=life.boot_id)
    return Symptom(SILENCE, life.instance, told, boot_id=life.boot_id)


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
    """Sources whose rows are bad; when no other source delivers, the pipeline's data as a whole."""
    found = []
    for name, sources in sorted(state.sources.items()):
        rules = state.rules.get(name)
        if rules is None:
            continue
        bad = sources.bad(rules, now)
        alone = [source for source in bad if not sources.others_deliver(source, bad, now)]
        found += [Symptom(BROKEN_DATA, name, f"{share.value:.0%} of {share.rows} rows of {source} are bad", name,
                          source) for source, share in bad.items() if source not in alone]
        if alone:
            told = ", ".join(f"{source} ({bad[source].value:.0%} bad)" for source in alone)
            # To quarantine them would stop the pipeline; a person has to decide.
            found.append(Symptom(BROKEN_DATA, name, f"no other source delivers good rows besides {told}", name))
    return found


def quality_loss(state: State) -> list[Symptom]:
    """Champions that answer worse on labelled predictions than when they were published."""
    found = []
    for name, window in sorted(state.windows.items()):
        loss, model = judge(window, state.reference(name)), state.models.get(name)
        if loss is not None and loss.lost and model is not None:
            found.append(Symptom(QUALITY_LOSS, name, loss.text(window.rule.metric), name, version=model.champion))
    return found


def training_failures(state: State) -> list[Symptom]:
    """Models whose latest run failed."""
    return [Symptom(TRAINING_FAILURE, model, f"run {run.run_id} failed: {run.why}", model)
            for model, run in sorted(state.runs.items()) if run.state == "failed"]
