"""A pipeline that takes nothing in because its data is broken as a whole: when it is tried again, and what that shows.

While it is paused nobody can see whether its producers are well again: what they send waits unread behind what they
sent before. Where rows are turned away, a try does no harm: ingest keeps bad rows out as it always does. So the pause
is half open after a while, like a circuit breaker, and twice as long after each try that fails. Where wrong rows would
be taken in, and where a dead-letter limit stopped the line, only a person can say what is to become of what waits.
"""

from typing import Final

from services.watchdog.core.incident import following, part, taken
from services.watchdog.core.inputs import Incident, Rules
from services.watchdog.core.safety.policy import unbidden
from services.watchdog.core.safety.rung import Rung
from services.watchdog.core.safety.verdict import Finding, Verdict
from services.watchdog.core.state import State
from services.watchdog.core.symptom import BROKEN_DATA, LINE_STOPPED, OF_FIELDS, SCHEMA_CHANGE, UNUSUAL_ROWS

PAUSE: Final = "pause"
RESUME: Final = "resume"
QUARANTINE: Final = "quarantine"
CURED: Final = OF_FIELDS | {BROKEN_DATA, LINE_STOPPED}
"""Kinds that a quarantine or a pause is for."""
TRIED: Final = frozenset({BROKEN_DATA, SCHEMA_CHANGE})
"""Those for which it is paused only where rows are turned away, so that it may be tried."""

# What waited is read first, far faster than it came; for a minute after it was told to go on no limit stops a line.
TRY_S: Final = 30.0
# Ingest obeys at once and sums up every two seconds; a batch in hand is finished.
SETTLE_S: Final = 3.0
MOST_DOUBLINGS: Final = 30


def wanted(incident: Incident, rules: Rules, state: State) -> tuple[str, ...]:
    """The actions that were taken and those that may follow: a quarantine where there is something to do without, a
    pause where most rows are turned away, or wrong in what they need."""
    if incident.action and incident.action not in (QUARANTINE, RESUME):
        return (PAUSE,) * incident.rung
    if incident.action == RESUME:
        return (PAUSE,) * (incident.rung + 1)
    ladders = rules.ladders
    actions = ladders.broken_field if incident.symptom in OF_FIELDS else (
        ladders.broken_data if incident.symptom == BROKEN_DATA else ladders.line_stopped)
    return following(actions, incident, {QUARANTINE: _can_quarantine(incident, rules, state),
                                         PAUSE: _can_pause(incident, rules, state)})


def _can_quarantine(incident: Incident, rules: Rules, state: State) -> bool:
    """Never the only field, and not so many at once that rows say little."""
    if incident.symptom not in OF_FIELDS:
        return bool(part(incident))
    name, fields = part(incident), state.fields.get(incident.pipeline)
    if fields is None or not rules.broken.fields.get(name) or len(rules.broken.fields) < 2:
        return False
    return sum(one != name for one in fields.quarantined) < rules.broken.quarantined_fields


def _can_pause(incident: Incident, rules: Rules, state: State) -> bool:
    if incident.symptom == LINE_STOPPED:
        return bool(incident.pipeline)
    sources = state.sources.get(incident.pipeline)
    if sources is not None and sources.turned_away > rules.broken.turned_away:
        return incident.symptom in OF_FIELDS or not part(incident)
    name, fields = part(incident), state.fields.get(incident.pipeline)
    return (incident.symptom in OF_FIELDS and fields is not None and name in fields.by_name
            and not rules.broken.fields.get(name) and fields.by_name[name].displaced)


def paused_last(incident: Incident) -> bool:
    """Whether it was paused for the incident, and nobody but a person let it go on since."""
    return next((one for one in reversed(taken(incident)) if one in (PAUSE, RESUME)), "") == PAUSE


def look(incident: Incident, state: State, now: float) -> Verdict | None:
    """What is to be seen while it is paused, or tried; None where the symptom says it."""
    if incident.action not in (PAUSE, RESUME) or incident.symptom not in CURED:
        return None
    rules = state.rules.get(incident.pipeline)
    if rules is None:
        return Verdict(Finding.WELL, "the pipeline is gone")
    if incident.state == "commanded" and incident.answered in ("refused", "failed"):
        return Verdict(Finding.WORSE, f"the command was {incident.answered}")
    held = state.pauses.held(incident.pipeline, now)
    if incident.action == RESUME:
        if not held:
            return _rows(incident, rules, state, now)
        return Verdict(Finding.WORSE, "it is still paused") if now >= incident.deadline else Verdict(Finding.OPEN)
    if held or not _goes_on(incident, rules, state, now):
        done = incident.state == "commanded" and (held or incident.answered == "done")
        return Verdict(Finding.WORSE, _told(incident, rules, state)) if done else Verdict(Finding.OPEN)
    return _rows(incident, rules, state, now) if incident.symptom in TRIED else None


def due(incident: Incident, state: State, now: float) -> Rung | None:
    """The try, when it is time for one."""
    rules = state.rules.get(incident.pipeline)
    wait_s = _wait_s(incident, rules, state) if rules is not None and incident.action == PAUSE else 0.0
    if not wait_s or now - incident.commanded_at < wait_s or not state.pauses.held(incident.pipeline, now):
        return None
    return Rung(RESUME, TRY_S)


def _wait_s(incident: Incident, rules: Rules, state: State) -> float:
    """How long the pause lasts before it is tried; 0: until a person says so. A try that could not be ended without a
    person is not begun."""
    if incident.symptom not in TRIED or not unbidden(PAUSE, rules, state.thresholds):
        return 0.0
    tries = min(len(incident.command_ids) // 2, MOST_DOUBLINGS)
    return min(rules.broken.resume_longest_s, rules.broken.resume_after_s * float(2 ** tries))


def _goes_on(incident: Incident, rules: Rules, state: State, now: float) -> bool:
    """Whether a person let it go on: ingest says so, or rows come."""
    since = incident.commanded_at + SETTLE_S
    sources = state.sources.get(incident.pipeline)
    return state.pauses.resumed(incident.pipeline, since, now) or (
        sources is not None and sources.whole(rules, now, since + SETTLE_S).rows > 0)


def _rows(incident: Incident, rules: Rules, state: State, now: float) -> Verdict:
    """What the newest rows since it goes on are like; too few say nothing."""
    sources = state.sources.get(incident.pipeline)
    if sources is None:
        return Verdict(Finding.WAIT)
    share = sources.whole(rules, now, incident.commanded_at + SETTLE_S)
    if share.rows < rules.min_rows:
        return Verdict(Finding.WAIT)
    told = f"{share.value:.0%} of the newest {share.rows} rows are bad since it goes on"
    if share.value > rules.bad_share:
        return Verdict(Finding.OPEN, told)
    unusual = (UNUSUAL_ROWS, f"data:{incident.pipeline}") in state.standing
    return Verdict(Finding.WAIT if unusual else Finding.WELL, "" if unusual else told)


def _told(incident: Incident, rules: Rules, state: State) -> str:
    wait_s = _wait_s(incident, rules, state)
    tried = f"; it is tried again in {wait_s:g} s" if wait_s else ""
    return (f"it is paused, and what is sent waits on its topics: mend what sends it, then "
            f"`lepton pipelines resume {incident.pipeline}`{tried}")
