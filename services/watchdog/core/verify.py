"""Whether what was wrong is well again, and whether an action already shows that it did not help."""

from services.watchdog.core.diagnosis.training import TRAININGS, ours
from services.watchdog.core.inputs import READY, STARTING, Incident, Tick
from services.watchdog.core.proof import kept_out
from services.watchdog.core.rules import pipeline_of
from services.watchdog.core.safety import looping, pausing, renewing
from services.watchdog.core.safety.draining import DRAIN_S, DRAINED_S
from services.watchdog.core.safety.verdict import Finding, Verdict
from services.watchdog.core.signals import Life
from services.watchdog.core.state import State
from services.watchdog.core.symptom import (
    BUS,
    LOAD_AHEAD,
    NO_LABELS,
    NO_ROWS,
    OF_LOAD,
    OUTSIDE,
    SLOW_MODEL,
    STANDING,
    SURGE,
    TOO_MUCH,
    UNUSABLE,
)

# A version that just came is not yet complained of, even where it is no better.
HEARD_S = 2.0
# Who is let go after their time shows within this whether they have stopped.
AFTER_HOLD_S = 30.0

OPEN, WAIT = Verdict(Finding.OPEN), Verdict(Finding.WAIT)


def look(incident: Incident, state: State, tick: Tick) -> Verdict:
    """What the signals say of the incident at this tick."""
    now = tick.monotonic_s
    paused = pausing.look(incident, state, now)
    if paused is not None:
        return paused
    drained = _drained(incident, state, now) if incident.action == "drain" else None
    if drained is not None:
        return drained
    match incident.symptom:
        case "silence":
            return _bus(state, now) if incident.cause == BUS else _process(incident, state, now)
        case "cut_off":
            return _process(incident, state, now)
        case "bad_labels":
            return _turned(incident, state, now)
        case "quality_loss":
            return _refused(incident) or _quality(incident, state, now)
        case "estimated_loss":
            return _refused(incident) or _estimated(incident, state, now)
        case "poor_feedback":
            return _refused(incident) or _feedback(incident, state)
        case "unusable_model":
            return _refused(incident) or _unusable(incident, state, now)
        case "slow_model":
            return _refused(incident) or _speed(incident, state, now)
        case "broken_data":
            return _refused(incident) or kept_out.source(incident, state, now)
        case "broken_field" | "schema_change":
            return _refused(incident) or kept_out.field(incident, state, now)
        case "line_stopped":
            return _line(incident, state)
        case "idle":
            return _idle(incident, state, now)
        case kind if kind in OF_LOAD:
            return _load(incident, state, now)
        case "crash_loop":
            return looping.look(incident, state, _quiet(incident, state, now))
        case kind if kind in STANDING:
            return renewing.look(incident, state, _quiet(incident, state, now), now)
    return _refused(incident) or _training(incident, state)


def _drained(incident: Incident, state: State, now: float) -> Verdict | None:
    """That it is quiet now shows nothing: its restart follows once it is drained, or cannot be. None once it is another
    process by now, or has served again since, as it does where the restart must wait too long."""
    life = state.lives.by_name.get(incident.target.removeprefix("instance:"))
    if incident.state != "commanded" or life is None or life.leaving or incident.boot_id not in ("", life.boot_id):
        return None
    if not state.lives.may_judge(now):
        return WAIT
    if life.state == READY and now > incident.commanded_at + DRAIN_S + DRAINED_S:
        return None
    if incident.answered:
        return Verdict(Finding.WORSE, "it has no more requests" if incident.answered == "done" else
                       f"the drain was {incident.answered}")
    return OPEN


def _refused(incident: Incident) -> Verdict | None:
    refused = incident.state == "commanded" and incident.answered in ("refused", "failed")
    return Verdict(Finding.WORSE, f"the command was {incident.answered}") if refused else None


def _run_failed(incident: Incident, state: State) -> Verdict | None:
    """Whether the run that we commanded ended without a new version."""
    run = state.runs.get(incident.pipeline)
    if run is None or incident.state != "commanded" or run.state == "succeeded":
        return None
    # Runs by row count may end meanwhile, or be cancelled for ours: they say nothing.
    return Verdict(Finding.WORSE, f"run {run.run_id} {run.state}: {run.why}") if ours(run, incident) else None


def _quiet(incident: Incident, state: State, now: float) -> Verdict:
    """Well once nothing shows it any more; while nothing is heard, that shows nothing either."""
    if not state.lives.may_judge(now):
        return WAIT
    if (incident.symptom == OUTSIDE and not state.outside.known(incident.cause)) or (
            incident.symptom == NO_LABELS and not state.labels_heard(incident.pipeline)) or (
            incident.symptom in (NO_ROWS, SURGE) and not state.volume_known(incident.pipeline)):
        return OPEN
    if (incident.symptom, incident.cause) in state.standing:
        return _refused(incident) or _run_failed(incident, state) or OPEN
    return Verdict(Finding.WELL, "the signal is quiet")


def _load(incident: Incident, state: State, now: float) -> Verdict:
    """As any standing signal. What was done ahead of need cannot end it, and is enough while nothing is too much."""
    verdict = _quiet(incident, state, now)
    if verdict.finding is Finding.WELL and incident.held:
        return _held(incident, state, now, verdict)
    came = sorted(kind for kind, cause in state.standing if kind in TOO_MUCH and cause == incident.cause)
    if verdict.finding is Finding.WELL and incident.symptom == LOAD_AHEAD and came:
        return Verdict(Finding.WELL, f"it came: {came[0]}")
    if verdict.finding is Finding.WELL and incident.action == "scale_out":
        service = incident.target.partition(":")[2]
        return Verdict(Finding.WELL, f"with {len(state.lives.of(service))} processes of {service} {verdict.why}")
    if verdict is OPEN and incident.state == "commanded" and (
            incident.symptom == LOAD_AHEAD
            or (incident.symptom == SURGE and not any(kind in TOO_MUCH for kind, _ in state.standing))):
        return WAIT
    return verdict


def _held(incident: Incident, state: State, now: float, quiet: Verdict) -> Verdict:
    """Quiet while somebody is held back: well once they ask for no more than they may, or go on without that."""
    needed = [one for one in incident.held if _needed(one, state, now)]
    if now < incident.held_until and needed:
        return Verdict(Finding.WAIT, f"{quiet.why} while {needed[0]} is held back")
    if incident.held_until <= now < incident.held_until + AFTER_HOLD_S:
        return WAIT
    return Verdict(Finding.WELL, f"{quiet.why}, and {' and '.join(incident.held)} need not be held back")


def _needed(held: str, state: State, now: float) -> bool:
    """Whether more would be asked for than may be, were it let go."""
    kind, _, name = held.partition(":")
    return state.levels.needed(name, now) if kind == "model" else state.clients.held_back(name)


def _idle(incident: Incident, state: State, now: float) -> Verdict:
    """Well once there is one process fewer, or there is work again; its clock begins anew with either."""
    if not state.lives.may_judge(now):
        return WAIT
    service = incident.target.partition(":")[2]
    if not state.work.idle_s(service, now):
        return Verdict(Finding.WELL, f"{len(state.lives.of(service))} processes of {service}, and work for them")
    return _refused(incident) or OPEN


def _bus(state: State, now: float) -> Verdict:
    """Well once our own heartbeats come back, and those of somebody else, where there is somebody."""
    lives = state.lives
    others = [life for life in lives.others() if life.heard]
    heard = [life for life in others if not lives.silent(life, now)]
    if lives.stalled_since is None and (heard or not others):
        return Verdict(Finding.WELL, f"heartbeats flow again ({len(heard)} of {len(others)} processes)")
    return OPEN


def _process(incident: Incident, state: State, now: float) -> Verdict:
    """Well once a new process is ready, or the old one speaks again; only a bus that carries shows anything else."""
    life = state.lives.by_name.get(incident.target.removeprefix("instance:"))
    if life is None or life.leaving:
        return renewing.departed(incident, state, now)
    if not state.lives.may_judge(now):
        return WAIT
    if not life.heard or state.lives.silent(life, now) or life.heard_at <= incident.since:
        return _refused(incident) or OPEN
    if life.boot_id != incident.boot_id:
        return _new_process(incident, life, state, now)
    if life.state != READY:
        return OPEN
    # The same process speaks again. If a restart is under way, its result is waited for.
    if incident.state != "commanded" or now >= incident.deadline or _refused(incident):
        return Verdict(Finding.WELL, "it came back by itself")
    return OPEN


def _new_process(incident: Incident, life: Life, state: State, now: float) -> Verdict:
    if life.state == READY:
        known = incident.boot_id != ""
        return Verdict(Finding.WELL, f"a new process is ready (boot {life.boot_id})" if known else "it is ready")
    limits = state.thresholds
    if life.state == STARTING and now < incident.commanded_at + limits.verify_s + limits.start_grace_s:
        # On a busy machine a start takes its time; another restart would only set it back.
        return WAIT
    return OPEN


def _quality(incident: Incident, state: State, now: float) -> Verdict:
    model, window = state.models.get(incident.pipeline), state.windows.get(incident.pipeline)
    if model is None or window is None:
        return Verdict(Finding.WELL, "the pipeline is gone")
    if state.labels_wrong(incident.pipeline):
        return Verdict(Finding.WELL, f"it was not the model: {state.labels_wrong(incident.pipeline)}")
    loss = state.loss(incident.pipeline)
    replaced = model.champion != incident.from_version
    if incident.state == "commanded" and not replaced:
        return _run_failed(incident, state) or OPEN
    if state.labels_unsure(incident.pipeline):
        return WAIT
    if loss is not None:
        told = f"version {model.champion}: {loss.text(window.rule.metric)}"
        return Verdict(Finding.WORSE if loss.lost else Finding.WELL, told)
    if incident.state == "suspected":
        # Too few labels to say anything of a version that came meanwhile.
        return WAIT
    return _held_out(incident, state, now) if replaced and incident.action in TRAININGS else OPEN


def _turned(incident: Incident, state: State, now: float) -> Verdict:
    """Well once labels say the same as answers again, or something else is wrong."""
    if not state.lives.may_judge(now):
        return WAIT
    if state.labels_wrong(incident.pipeline):
        return OPEN
    known = state.turned.get(incident.pipeline)
    return Verdict(Finding.WELL, known.ended if known is not None and known.ended else "labels do not show it any more")


def _estimated(incident: Incident, state: State, now: float) -> Verdict:
    """Well once labels decide, whatever they say, or answers look as at publication again."""
    known, model = state.estimates.by_model.get(incident.pipeline), state.models.get(incident.pipeline)
    if known is None or model is None:
        return Verdict(Finding.WELL, "the pipeline is gone, or nobody watches its quality any more")
    if not state.lives.may_judge(now):
        return WAIT
    if known.version == incident.from_version and known.bad_since is not None:
        return Verdict(Finding.WELL, _labels(incident, state)) if known.decided() else (
            _run_failed(incident, state) or OPEN)
    if known.last is None and known.version != incident.from_version:
        return _held_out(incident, state, now) if incident.action in TRAININGS else (
            Verdict(Finding.WELL, f"version {known.version} answers now"))
    if known.last is None:
        return OPEN
    if known.bad_since is not None:
        return Verdict(Finding.WORSE, f"version {known.version}: {known.last.text()}") if known.bad > 1 else WAIT
    return Verdict(Finding.WELL, f"version {known.version}: {known.last.text()}")


def _labels(incident: Incident, state: State) -> str:
    window = state.windows.get(incident.pipeline)
    loss = state.loss(incident.pipeline)
    return "labels came and decide" + (f": {loss.text(window.rule.metric)}" if loss and window else "")


def _feedback(incident: Incident, state: State) -> Verdict:
    """Well once people reject the version that answers then no more than usual, in what they say since."""
    model = state.models.get(incident.pipeline)
    if model is None or incident.pipeline not in state.rules:
        return Verdict(Finding.WELL, "the pipeline is gone")
    replaced = model.champion != incident.from_version
    if incident.state == "commanded" and not replaced:
        return _run_failed(incident, state) or OPEN
    tally = state.feedback.of(incident.pipeline, model.champion)
    if tally is None or tally.closed_at <= max(incident.since, incident.commanded_at):
        # Too little was said of a version that came meanwhile.
        return WAIT if incident.state == "suspected" and replaced else OPEN
    if tally.bad:
        return Verdict(Finding.WORSE, tally.told) if replaced else OPEN
    return Verdict(Finding.WELL, tally.told) if tally.run < 0 else OPEN


def _unusable(incident: Incident, state: State, now: float) -> Verdict:
    """Well once another version is champion and nobody complains of that one."""
    if not state.lives.may_judge(now):
        return WAIT
    model = state.models.get(incident.pipeline)
    if model is None:
        return Verdict(Finding.WELL, "the model is gone")
    stands = (UNUSABLE, incident.cause) in state.standing
    if model.champion == incident.from_version:
        if incident.state == "suspected" and not stands:
            return Verdict(Finding.WELL, "nobody complains of it any more")
        return _run_failed(incident, state) or OPEN
    if stands:
        return Verdict(Finding.WORSE, f"version {model.champion} is none to answer with either")
    if now - state.promoted.get(incident.pipeline, now) < HEARD_S:
        return WAIT
    return Verdict(Finding.WELL, f"version {model.champion} answers")


def _speed(incident: Incident, state: State, now: float) -> Verdict:
    """Well once the version that answers then, or this one by itself, is as fast as what was before."""
    if not state.lives.may_judge(now):
        return WAIT
    model, speed = state.models.get(incident.pipeline), state.speeds.by_model.get(incident.pipeline)
    if model is None or speed is None:
        return Verdict(Finding.WELL, "the model is gone")
    stands = (SLOW_MODEL, incident.cause) in state.standing
    if model.champion == incident.from_version:
        if stands or incident.state == "commanded":
            return OPEN
        return Verdict(Finding.WELL, f"version {model.champion} is as fast as the one before again")
    if stands:
        return Verdict(Finding.WORSE, f"version {model.champion} is no faster, so it is not the version")
    if not speed.known:
        # Where nobody asks, nobody can say.
        return WAIT if now < incident.commanded_at + state.thresholds.young_s else OPEN
    if speed.slow_since is not None:
        return WAIT
    return Verdict(Finding.WELL, f"version {model.champion} answers as fast as was usual")


def _held_out(incident: Incident, state: State, now: float) -> Verdict:
    """When labels stop coming, the rows a newly trained version was measured on at publication must do."""
    reference, news = state.published(incident.pipeline), state.news.get(incident.pipeline, now)
    if reference is None or now - news < state.thresholds.no_labels_s:
        return OPEN
    return Verdict(Finding.WELL, f"no more labels come; on {reference.rows} held-out rows the new version reached "
                                 f"{reference.value:.3f}")


def _line(incident: Incident, state: State) -> Verdict:
    if incident.pipeline:
        if incident.pipeline not in state.rules:
            return Verdict(Finding.WELL, "the pipeline is gone")
        still = any(pipeline_of(work) == incident.pipeline for life in state.lives.others() for work in life.stopped)
        # A watchdog that has just begun has not heard of everybody; a process that has, not tried yet.
        unsaid = any(not life.heard or life.state == STARTING for life in state.lives.others())
        return OPEN if still or unsaid else Verdict(Finding.WELL, "the line moves again")
    life = state.lives.by_name.get(incident.target.removeprefix("instance:"))
    if life is None or not life.line_stopped:
        return Verdict(Finding.WELL, "the line moves again")
    return OPEN


def _training(incident: Incident, state: State) -> Verdict:
    """Well once a run does not fail. One that was to heal it has done so only with a version that its gate let pass."""
    run = state.runs.get(incident.pipeline)
    if run is None:
        return Verdict(Finding.WELL, "the pipeline is gone")
    if run.state == "failed" or (run.state != "succeeded" and ours(run, incident)):
        return _run_failed(incident, state) or OPEN
    # Somebody else's says nothing while the one that is to heal it has not ended.
    unfit = ("cancelled", "rejected") if incident.state == "commanded" else ("cancelled",)
    if not ours(run, incident) and run.state in unfit:
        return OPEN
    told = f"run {run.run_id} {run.state}" if ours(run, incident) else "the next run did not fail"
    return Verdict(Finding.WELL, told)
