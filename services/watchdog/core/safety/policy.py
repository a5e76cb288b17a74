"""Whether an action is wanted at all: dry run, maintenance, and what comes back as often as it is cured."""

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from services.watchdog.core.inputs import Incident, Rules, Thresholds
from services.watchdog.core.symptom import SILENCE

DAY_MINUTES: Final = 24 * 60
MAX_ENDS: Final = 50


def only_told(incident: Incident, action: str, rules: Rules | None, limits: Thresholds) -> str:
    """Why `action` is not taken but told to a person; empty when it is taken."""
    return f"dry run: {action} of {incident.target} was not commanded" if _dry(action, rules, limits) else ""


def _dry(action: str, rules: Rules | None, limits: Thresholds) -> bool:
    """A drain is the beginning of a restart: it is not begun where that would not follow."""
    if isinstance(limits.dry_run, bool):
        everywhere = limits.dry_run
    else:
        everywhere = action in limits.dry_run or (action == "drain" and "restart" in limits.dry_run)
    return everywhere or (rules is not None and action in rules.dry_run)


def awaited_s(action: str, rules: Rules | None, limits: Thresholds) -> float:
    """How long `action` waits for a person's word before it is left alone; 0: it needs none."""
    if rules is not None and action in rules.approval:
        return rules.approval_s
    return limits.approval_s if action in limits.approval else 0.0


def unbidden(action: str, rules: Rules | None, limits: Thresholds) -> bool:
    """Whether `action` is taken without a person: neither told only nor asked for."""
    return not _dry(action, rules, limits) and not awaited_s(action, rules, limits)


def under_maintenance(incident: Incident, rules: Rules | None, limits: Thresholds, wall_s: float) -> bool:
    """Whether nothing is to be done about it at this time of the day, UTC: by the windows of its Pipeline, or, where it
    belongs to none (a process, the number of processes of a service), by those of the installation."""
    of_pipeline = rules.maintenance if rules is not None else ()
    windows = of_pipeline if incident.pipeline else limits.maintenance
    minute = int(wall_s // 60) % DAY_MINUTES
    return any(begin <= minute < end if begin <= end else minute >= begin or minute < end for begin, end in windows)


@dataclass(slots=True)
class Flaps:
    """How often what was well again came back. A process is excepted: its restarts have a budget and a back-off."""

    ends: dict[str, deque[float]] = field(default_factory=dict)

    def ended(self, incident: Incident, now: float) -> None:
        """It was verified after something had been done about it."""
        if incident.command_ids and incident.symptom != SILENCE:
            for kind in (incident.symptom, *incident.also):
                self.ends.setdefault(f"{kind}:{incident.cause}", deque(maxlen=MAX_ENDS)).append(now)

    def flapping(self, incident: Incident, limits: Thresholds, now: float) -> str:
        """Why no more is to be done by itself; empty while it does not come back too often."""
        ends = self.ends.get(incident.key, deque())
        while ends and now - ends[0] > limits.flap_s:
            ends.popleft()
        if len(ends) < limits.flaps:
            return ""
        return f"it was cured {len(ends)} times in {limits.flap_s / 60:.0f} minutes and came back"
