"""What is done about a cause, rung by rung, and what bounds it: budget, cool-down, expiry."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from msgspec.structs import replace

from services.watchdog.core.capacity.bounds import one_more, wanted
from services.watchdog.core.diagnosis.training import TRAININGS, of_failure, of_loss
from services.watchdog.core.incident import following, part
from services.watchdog.core.incident import taken as taken_by
from services.watchdog.core.inputs import Incident, Rules, Thresholds, Tick
from services.watchdog.core.load.levels import NOTHING
from services.watchdog.core.orders.command import Command
from services.watchdog.core.safety import pausing
from services.watchdog.core.safety.draining import DRAIN_S, DRAINED_S, drainable, odd_one_out
from services.watchdog.core.safety.rung import Rung
from services.watchdog.core.state import State
from services.watchdog.core.symptom import (
    AVAILABILITY,
    BROKEN_DATA,
    BUS,
    CRASH_LOOP,
    CUT_OFF,
    DRIFT,
    ESTIMATED_LOSS,
    FAILURES,
    FILES,
    IDLE,
    LAG,
    LATENCY,
    LEAK,
    LOAD_AHEAD,
    LOST_FILE,
    OF_FIELDS,
    OF_LOAD,
    OVERLOAD,
    POOR_FEEDBACK,
    QUALITY_LOSS,
    QUEUE,
    SILENCE,
    SLOW_MODEL,
    SURGE,
    TOO_FEW,
    TRAINING_FAILURE,
    UNUSABLE,
    Symptom,
)

# Restarted by the process manager alone: the watchdog cannot command itself, and without the actuator nobody obeys.
SELF_HEALING = frozenset({"watchdog", "actuator"})
# A process that still works may finish what it has in hand.
RENEW_GRACE_S = 10.0
# The answer that a drain has ended, or has not, comes within this time after the one that its requests have.
DRAIN_ANSWER_S = 8.0
# What was refused so long before it showed that too much was belongs to the same trouble.
BEFORE_SHOWN_S = 60.0
# A search, and the training with what it found, may take so long, and then has as long as any training to show.
TUNE_S = 240.0
# A command to let go is worth nothing later: what is held back ends by itself.
LIFT_S = 60.0
GATEWAY, MODEL = "gateway", "model:"
HOLDS = frozenset({"throttle", "shed"})
"""Actions that hold somebody back for a time."""
OF_MODEL = frozenset({"fall_back", "shed"})
"""Actions of the predictors, on a model."""
# Restarts of a process within the time of its budget that do not yet look like a loop.
FREE_RESTARTS = 3


class Permit(Enum):
    """Whether an action may be taken now."""

    GO = "go"
    WAIT = "wait"
    SPENT = "spent"


def ladder(incident: Incident, state: State) -> tuple[Rung, ...]:
    """Actions in the order they are tried; empty: a person is told at once, or after a while."""
    limits = state.thresholds
    if incident.symptom == SILENCE and incident.cause != BUS:
        life = state.lives.by_name.get(incident.target.removeprefix("instance:"))
        if life is not None and life.service in SELF_HEALING:
            return ()
        return (Rung("restart", limits.verify_s), Rung("restart", limits.verify_s))
    if incident.symptom in (LEAK, FILES, CUT_OFF, FAILURES):
        return _renewing(incident, state)
    rules = state.rules.get(incident.pipeline, Rules(incident.pipeline))
    rungs = tuple(_rung(action, limits) for action in _wanted(incident, rules, state))
    # People take their time to say what they think of another version.
    return tuple(Rung(one.action, max(one.verify_s, limits.fall_back_verify_s)) for one in rungs) if (
        incident.symptom == POOR_FEEDBACK) else rungs


def _renewing(incident: Incident, state: State) -> tuple[Rung, ...]:
    """Of a process that is ill and still works: a restart in order, drained before where another can stand in.

    One that cannot be reached by the bus hears no command. Who only fails is begun anew where that can cost nothing and
    the others do not fail. Where a restart waits for a person's word, nothing is drained meanwhile.
    """
    limits, instance = state.thresholds, incident.target.removeprefix("instance:")
    alive, taken = state.lives.by_name.get(instance), taken_by(incident)
    if (alive is None and "restart" not in taken) or (alive is not None and alive.service in SELF_HEALING):
        return ()
    restart = Rung("restart", limits.renew_verify_s)
    drain = Rung("drain", DRAIN_S + DRAIN_ANSWER_S)
    if taken:
        return (drain, restart) if taken[0] == "drain" else (restart,)
    hands_over = incident.symptom != CUT_OFF and drainable(state, instance) and "restart" not in limits.approval
    if incident.symptom == FAILURES:
        return (drain, restart) if hands_over and odd_one_out(state, instance) else ()
    return (drain, restart) if hands_over else (restart,)


def _wanted(incident: Incident, rules: Rules, state: State) -> tuple[str, ...]:
    """What the Pipeline's ladder says, as far as it can be done."""
    if incident.symptom in (QUALITY_LOSS, UNUSABLE):
        return of_loss(rules.ladders.quality_loss, incident, state)
    if incident.symptom == TRAINING_FAILURE:
        return of_failure(rules.ladders.training_failure, incident, state)
    if incident.symptom == LOST_FILE:
        return _bringing_back(rules, incident, state)
    if incident.symptom == SLOW_MODEL:
        # Nothing that is learnt from other rows makes it faster.
        return tuple(one for one in rules.ladders.quality_loss if one == "roll_back")[:1]
    if incident.symptom == ESTIMATED_LOSS:
        return rules.ladders.estimated_loss
    if incident.symptom == POOR_FEEDBACK:
        return _of_feedback(rules.ladders.poor_feedback, incident, state)
    if incident.symptom == DRIFT and rules.drift.then == "retrain" and incident.pipeline in state.models:
        return rules.ladders.drift
    if incident.symptom in pausing.CURED:
        return pausing.wanted(incident, rules, state)
    if incident.symptom in (AVAILABILITY, LATENCY) and _came_with_the_champion(incident, state):
        return rules.ladders.availability if incident.symptom == AVAILABILITY else rules.ladders.latency
    if incident.symptom == IDLE:
        return ("scale_in",)
    return _relieving(rules, incident, state) if incident.symptom in OF_LOAD else ()


def _of_feedback(actions: tuple[str, ...], incident: Incident, state: State) -> tuple[str, ...]:
    """A version is left for what people say of it only where that came with it; rungs that were tried keep theirs."""
    taken, model = taken_by(incident), state.models.get(incident.pipeline)
    tally = state.feedback.of(incident.pipeline, incident.from_version)
    young = model is not None and model.previous > 0 and tally is not None and tally.young
    undone = "roll_back" in taken if taken else young or _came_with_the_champion(incident, state)
    return actions if undone else tuple(action for action in actions if action != "roll_back")


def _relieving(rules: Rules, incident: Incident, state: State) -> tuple[str, ...]:
    """What follows in the ladder on what was tried, as far as it can be done: a scale-out where there may be more
    processes, a throttle where one client is to blame, a shed where some requests matter less than others."""
    ladders = rules.ladders
    actions = {OVERLOAD: ladders.overload, LAG: ladders.lag, SURGE: ladders.surge, LOAD_AHEAD: ladders.load_ahead,
               QUEUE: ladders.queue, TOO_FEW: ("scale_out", "scale_out")}[incident.symptom]
    can = {"scale_out": one_more(service(incident), incident.symptom, incident.pipeline, state),
           "throttle": state.abuser(incident.pipeline) is not None, "shed": state.cut(incident.pipeline) is not None}
    return following(actions, incident, can)


def _bringing_back(rules: Rules, incident: Incident, state: State) -> tuple[str, ...]:
    """The same for a file that is lost: from a backup where there is one, a roll back where a version went before."""
    model = state.models.get(incident.pipeline)
    return following(rules.ladders.lost_file, incident, {
        "restore_backup": bool(state.kept.backup) and bool(state.unusable.lost(incident.pipeline)),
        "roll_back": model is not None and model.previous > 0, **dict.fromkeys(TRAININGS, True)})


def service(incident: Incident) -> str:
    """The service that is to have more or fewer processes; empty when the incident is about none."""
    kind, _, name = incident.target.partition(":")
    return name if kind == "service" else ""


def symptom_of(incident: Incident) -> Symptom:
    """What it was opened for."""
    return Symptom(incident.symptom, incident.cause if incident.cause == BUS else incident.target.partition(":")[2], "",
                   incident.pipeline, part(incident) if incident.symptom == BROKEN_DATA else "",
                   service=service(incident))


def _came_with_the_champion(incident: Incident, state: State) -> bool:
    """Whether the champion was young when the incident opened, and one before it can answer instead."""
    if incident.command_ids:
        return True
    model, promoted = state.models.get(incident.pipeline), state.promoted.get(incident.pipeline)
    return (model is not None and model.previous > 0 and promoted is not None
            and 0 <= incident.since - promoted <= state.thresholds.young_s)


def _rung(action: str, limits: Thresholds) -> Rung:
    verify_s = {"roll_back": limits.rollback_verify_s, "retrain": limits.retrain_verify_s,
                "fine_tune": limits.retrain_verify_s, "tune": limits.retrain_verify_s + 1.25 * TUNE_S,
                "quarantine": limits.quarantine_verify_s, "fall_back": limits.fall_back_verify_s,
                "throttle": limits.throttle_verify_s, "shed": limits.throttle_verify_s,
                "restore_backup": limits.restore_verify_s,
                "pause": limits.quarantine_verify_s,
                "scale_out": limits.scale_verify_s, "scale_in": limits.scale_verify_s}
    return Rung(action, verify_s[action])


def command(incident: Incident, rung: Rung, state: State, tick: Tick) -> Command:
    """The command of a rung; its id follows from incident and rung, so that it is never two commands."""
    return Command(
        command_id=f"{incident.id}-{incident.rung + 1}", action=rung.action,
        target=_target(incident, rung, state),
        arguments=_arguments(incident, rung, state, tick), cause=incident.cause, incident_id=incident.id,
        valid_s=rung.verify_s)


def _target(incident: Incident, rung: Rung, state: State) -> str:
    if rung.action == "throttle":
        found = state.abuser(incident.pipeline)
        return f"client:{found.key}" if found is not None else incident.target
    return f"model:{incident.pipeline}" if rung.action in OF_MODEL else incident.target


def lifts(incident: Incident, state: State, tick: Tick) -> tuple[Command, ...]:
    """What ends before its time what the incident holds back, out or still; each with an id of its own."""
    orders = [*_restored(incident, state, tick)]
    if pausing.paused_last(incident) and incident.pipeline in state.rules:
        # One that came late may be obeyed only now. Where nothing stands still, nothing comes of it.
        orders.append((pausing.RESUME, incident.target, {}))
    if tick.monotonic_s < incident.held_until:
        # A model may have fallen back meanwhile, which is not for us to end.
        orders += [("restore", one, {"what": "shed"} if one.startswith(MODEL) else {}) for one in incident.held]
    return tuple(
        Command(f"{incident.id}-lift-{number}" if number > 1 else f"{incident.id}-lift", action, target, arguments,
                incident.cause, incident.id, LIFT_S)
        for number, (action, target, arguments) in enumerate(orders, 1))


def _restored(incident: Incident, state: State, tick: Tick) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Lets the values of a field count again that it, or an incident before it, took out. What a person took out stays.
    """
    if incident.symptom not in OF_FIELDS:
        return
    name, fields = part(incident), state.fields.get(incident.pipeline)
    if fields is None:
        return
    seen = fields.by_name.get(name)
    out = seen is not None and seen.quarantined
    by_person = seen is not None and out and not seen.incident_id
    if by_person or not (out or "quarantine" in taken_by(incident)):
        return
    fields.let_go(name, tick.monotonic_s)
    yield "restore", incident.target, {"field": name}


def aimed(incident: Incident, state: State) -> Incident:
    """A later rung is about the version that answers now, or the process that is silent now."""
    model = state.models.get(incident.pipeline)
    alive = state.lives.by_name.get(incident.target.removeprefix("instance:"))
    return replace(incident, from_version=model.champion if model is not None else incident.from_version,
                   boot_id=alive.boot_id if alive is not None else incident.boot_id)


def _arguments(incident: Incident, rung: Rung, state: State, tick: Tick) -> dict[str, str]:
    limits = state.thresholds
    match rung.action:
        case "restart":
            # A process that is silent answers no polite request; one that still works is let finish.
            return {"grace_s": "0" if incident.symptom in (SILENCE, CRASH_LOOP) else f"{RENEW_GRACE_S:g}"}
        case "drain":
            return {"within_s": f"{DRAIN_S:g}", "for_s": f"{DRAIN_S + DRAINED_S:g}"}
        case "roll_back" | "fall_back":
            return {"from_version": str(incident.from_version)}
        case "throttle":
            found, gateways = state.abuser(incident.pipeline), max(1, len(state.lives.of(GATEWAY)))
            # Each gateway counts for itself.
            rate = found.allowed / gateways if found is not None else 1.0
            return {"rate_per_s": f"{rate:.3g}", "for_s": f"{limits.hold_s:g}"}
        case "shed":
            cut = state.cut(incident.pipeline) or NOTHING
            unnamed = "true" if cut.unnamed else "false"
            return {"keep": str(cut.keep), "unnamed": unnamed, "for_s": f"{limits.hold_s:g}"}
        case "restore_backup":
            return {"sha256": state.unusable.lost(incident.pipeline)}
        case "quarantine":
            return {"field" if incident.symptom in OF_FIELDS else "source": part(incident)}
        case "pause" | "resume":
            return {}
        case "replay_dead_letters":
            return {"since": f"{incident.opened_s - BEFORE_SHOWN_S:.3f}", "until": f"{tick.wall_s:.3f}"}
        case "scale_out" | "scale_in":
            return {"replicas": str(wanted(rung.action, service(incident), incident.symptom, incident.pipeline, state))}
    return _rows(incident, state) | ({"seconds": f"{TUNE_S:g}"} if rung.action == "tune" else {})


def _rows(incident: Incident, state: State) -> dict[str, str]:
    """What a training is to learn from; nothing: as much as is known."""
    if incident.symptom == DRIFT:
        rule = state.rules[incident.pipeline].drift
        return {"max_rows": str(rule.rows * rule.windows)}
    if incident.symptom in (ESTIMATED_LOSS, POOR_FEEDBACK):
        # Of the time since, hardly a row has a label, and opinions are none: what is learnt from otherwise must do.
        return {}
    if incident.symptom in (UNUSABLE, LOST_FILE, TRAINING_FAILURE):
        # The world is as it was: all that is known of it may be learnt from.
        return {}
    # Rows from before the loss would teach the new version the old truth.
    return {"max_rows": str(labels_since(incident, state))}


def labels_since(incident: Incident, state: State) -> int:
    """About how many labelled rows tell of the world since it changed.

    The loss showed once it filled about half a window; what was joined since the incident was opened comes on top.
    """
    rules = state.rules.get(incident.pipeline)
    window = rules.quality.window if rules is not None and rules.quality is not None else 100
    return window // 2 + state.labels.get(incident.pipeline, 0) - incident.labels


@dataclass(slots=True)
class Budget:
    """Actions taken, by what they count against. Cool-down counts from the last action on a target."""

    taken: dict[str, deque[float]] = field(default_factory=dict)
    last: dict[tuple[str, str], float] = field(default_factory=dict)

    def permit(self, incident: Incident, rung: Rung, state: State, now: float) -> Permit:
        """Another action of the same kind on the target waits for the cool-down; a next rung of the ladder does not."""
        rules = state.rules.get(incident.pipeline)
        for scope, (actions, per_s) in zip(_scopes(incident), _limits(incident, rules, state.thresholds), strict=True):
            # A pause that is tried may have to be renewed.
            if self._count(scope, now, per_s) + (rung.action == pausing.RESUME) >= actions:
                return Permit.SPENT
        cool_down_s = self._cool_down_s(incident, rules, state.thresholds, now)
        last = self.last.get((incident.target, rung.action + _which(incident)))
        return Permit.WAIT if last is not None and now - last < cool_down_s else Permit.GO

    def _cool_down_s(self, incident: Incident, rules: Rules | None, limits: Thresholds, now: float) -> float:
        """Of a process that dies again and again, twice as long each time, up to `retry_s`."""
        if service(incident):
            return max(limits.scale_cool_down_s, rules.cool_down_s if rules is not None else 0.0)
        if rules is not None:
            return rules.cool_down_s
        before = self._count(incident.target, now, limits.restart_per_s)
        return float(min(limits.retry_s, limits.restart_cool_down_s * 2 ** max(0, before - FREE_RESTARTS)))

    def charge(self, incident: Incident, action: str, at: float) -> None:
        for scope in _scopes(incident):
            # A drain is the beginning of a restart, which counts.
            if action != "drain":
                self.taken.setdefault(scope, deque(maxlen=1000)).append(at)
        self.last[(incident.target, action + _which(incident))] = at

    def remember(self, incidents: Iterable[Incident], tick: Tick) -> None:
        """Begin anew from what the incidents say was commanded, by another watchdog or this one before a restart."""
        self.taken, self.last = {}, {}
        for incident in incidents:
            for note in incident.timeline:
                if note.what.startswith("commanded "):
                    at = tick.monotonic_s - (tick.wall_s - note.at_s)
                    self.charge(incident, note.what.removeprefix("commanded "), at)

    def _count(self, scope: str, now: float, per_s: float) -> int:
        taken = self.taken.get(scope, deque())
        return sum(now - at < per_s for at in taken)


def _which(incident: Incident) -> str:
    # Two sources of one pipeline are two targets, though both commands go to the pipeline.
    return "/" + part(incident)


def _scopes(incident: Incident) -> tuple[str, ...]:
    """What an action counts against: a restart against its instance and against all restarts, a change of the number of
    processes against the service and the Pipeline it is made for, if any."""
    if service(incident):
        return (incident.target, *((f"pipeline:{incident.pipeline}",) if incident.pipeline else ()))
    return (incident.target, "restarts") if _of_process(incident) else (f"pipeline:{incident.pipeline}",)


def _of_process(incident: Incident) -> bool:
    return incident.target.startswith("instance:") or incident.target == BUS


def _limits(incident: Incident, rules: Rules | None, limits: Thresholds) -> tuple[tuple[int, float], ...]:
    """Actions, and in how many seconds, of each scope."""
    own = (rules.budget_actions, rules.budget_per_s) if rules is not None else (0, 0.0)
    if service(incident):
        return ((limits.scale_actions, limits.scale_per_s), *((own,) if incident.pipeline else ()))
    if _of_process(incident):
        return (limits.restart_actions, limits.restart_per_s), (limits.all_restarts, limits.restart_per_s)
    return (own,)
