"""What is done about a cause, rung by rung, and what bounds it: budget, cool-down, expiry."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from services.watchdog.core.inputs import Command, Incident, Rules, Thresholds, Tick
from services.watchdog.core.rules import BROKEN_DATA, BUS, QUALITY_LOSS, SILENCE
from services.watchdog.core.state import State

# Restarted by the process manager alone: the watchdog cannot command itself, and without the actuator nobody obeys.
SELF_HEALING = frozenset({"watchdog", "actuator"})


@dataclass(frozen=True, slots=True)
class Rung:
    """An action, and within which time it must have shown an effect."""

    action: str
    verify_s: float


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
    if incident.symptom == QUALITY_LOSS:
        retrain = Rung("retrain", limits.retrain_verify_s)
        model = state.models.get(incident.pipeline)
        has_previous = model is not None and model.previous > 0
        roll_back = (Rung("roll_back", limits.rollback_verify_s),)
        # Decided at the first rung; later ones must keep their place.
        return (*(roll_back if has_previous or incident.rung else (retrain,)), retrain, retrain)
    if incident.symptom == BROKEN_DATA and "/" in incident.cause:
        return (Rung("quarantine", limits.quarantine_verify_s),)
    return ()


def command(incident: Incident, rung: Rung, state: State, tick: Tick) -> Command:
    """The command of a rung; its id follows from incident and rung, so that it is never two commands."""
    return Command(
        command_id=f"{incident.id}-{incident.rung + 1}", action=rung.action, target=incident.target,
        arguments=_arguments(incident, rung, state, tick), cause=incident.cause, incident_id=incident.id,
        valid_s=rung.verify_s)


def _arguments(incident: Incident, rung: Rung, state: State, tick: Tick) -> dict[str, str]:
    match rung.action:
        case "restart":
            # A process that is silent answers no polite request.
            return {"grace_s": "0"}
        case "roll_back":
            return {"from_version": str(incident.from_version)}
        case "quarantine":
            return {"source": incident.cause.partition("/")[2]}
    # Rows from before the loss would teach the new version the old truth.
    return {"max_rows": str(labels_since(incident, state)), "since": f"{incident.opened_s:.3f}"}


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
            if self._count(scope, now, per_s) >= actions:
                return Permit.SPENT
        cool_down_s = rules.cool_down_s if rules is not None else state.thresholds.restart_cool_down_s
        last = self.last.get((incident.target, rung.action + _which(incident)))
        return Permit.WAIT if last is not None and now - last < cool_down_s else Permit.GO

    def charge(self, incident: Incident, action: str, at: float) -> None:
        for scope in _scopes(incident):
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
    return "/" + incident.cause.partition("/")[2]


def _scopes(incident: Incident) -> tuple[str, ...]:
    """What an action counts against: a restart against its instance and against all restarts."""
    return (incident.target, "restarts") if incident.symptom == SILENCE else (f"pipeline:{incident.pipeline}",)


def _limits(incident: Incident, rules: Rules | None, limits: Thresholds) -> tuple[tuple[int, float], ...]:
    """Actions, and in how many seconds, of each scope."""
    if incident.symptom == SILENCE:
        return (limits.restart_actions, limits.restart_per_s), (limits.all_restarts, limits.restart_per_s)
    return ((rules.budget_actions, rules.budget_per_s) if rules is not None else (0, 0.0),)
