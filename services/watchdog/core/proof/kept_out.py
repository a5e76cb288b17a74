"""Whether rows of a source, or one field, are well again, and whether it helped that they are kept out meanwhile."""

from services.watchdog.core.incident import part
from services.watchdog.core.inputs import Incident
from services.watchdog.core.safety.verdict import Finding, Verdict
from services.watchdog.core.state import State
from services.watchdog.core.symptom import ESTIMATED_LOSS, QUALITY_LOSS, SCHEMA_CHANGE

# Summaries come every two seconds and take a moment: rows counted before a quarantine took hold are not held
# against it.
SUMMARY_S = 3.0
# Longer than this no field is out without a person being told again.
STAYS_OUT_S = 3_600.0

OPEN = Verdict(Finding.OPEN)


def source(incident: Incident, state: State, now: float) -> Verdict:
    """Well once no bad rows of the source come, or, of the data as a whole, of any."""
    rules, sources = state.rules.get(incident.pipeline), state.sources.get(incident.pipeline)
    if rules is None or sources is None:
        return Verdict(Finding.WELL, "the pipeline is gone")
    bad = sources.bad(rules, now)
    name = part(incident)
    if incident.state != "commanded":
        still = name in bad if name else bad
        return OPEN if still else Verdict(Finding.WELL, "the bad rows stopped")
    if now < incident.commanded_at + rules.window_s + SUMMARY_S:
        return OPEN
    share = sources.share(name, rules, now, incident.commanded_at + SUMMARY_S)
    if share.rows >= rules.min_rows and share.value > rules.bad_share:
        return OPEN
    told = f"{share.value:.0%} bad rows" if share.rows else "no rows"
    return Verdict(Finding.WELL, f"{told} of {name} since the quarantine")


def field(incident: Incident, state: State, now: float) -> Verdict:
    """Well once its values are as usual again; that the quarantine helped shows in the rows and in what is answered.
    Of one that comes under another name a person has to say so: to be without it is no cure."""
    rules, fields = state.rules.get(incident.pipeline), state.fields.get(incident.pipeline)
    name = part(incident)
    if rules is None or (fields is not None and fields.meant and name not in rules.broken.fields):
        return Verdict(Finding.WELL, "the pipeline, or the field, is gone")
    seen = fields.by_name.get(name) if fields is not None else None
    if seen is None:
        return OPEN
    if seen.outlived:
        return Verdict(Finding.WELL, f"{name} means something else now, and is judged anew")
    if seen.well_s(now) > (rules.broken.restore_after_s if incident.command_ids or seen.quarantined else 0.0):
        return Verdict(Finding.WELL, f"the values of {name} are as usual again")
    if not seen.quarantined or now < incident.commanded_at + rules.window_s + SUMMARY_S:
        return OPEN
    lost = [kind for kind in (QUALITY_LOSS, ESTIMATED_LOSS) if (kind, f"model:{incident.pipeline}") in state.standing]
    if lost and all(note.what != "helped" for note in incident.timeline):
        return Verdict(Finding.OPEN, f"{lost[0]} without {name}")
    sources = state.sources.get(incident.pipeline)
    if sources is not None and sources.alone(rules, now):
        return Verdict(Finding.OPEN, f"rows are bad without {name} too")
    if incident.symptom == SCHEMA_CHANGE:
        return Verdict(Finding.WORSE, f"rows are taken in without {name}, until it comes under a name that is known")
    if now > incident.commanded_at + STAYS_OUT_S:
        return Verdict(Finding.OPEN, f"{name} is still broken, and stays quarantined until it is well")
    return Verdict(Finding.WAIT, f"rows are taken in without {name}")
