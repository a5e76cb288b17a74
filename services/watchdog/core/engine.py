"""The watchdog's mind: inputs up to a tick in, decisions out; the same inputs always give the same decisions.

While it does not lead (another watchdog holds the lease) it takes everything in and decides nothing.
"""

from collections.abc import Collection, Sequence

from msgspec.structs import replace

from services.watchdog.core import incident as life
from services.watchdog.core import remedy, verify
from services.watchdog.core.capacity import placing
from services.watchdog.core.diagnose import cause, explained, target
from services.watchdog.core.diagnosis.blame import passed_on
from services.watchdog.core.diagnosis.ranking import ranked, root, told
from services.watchdog.core.diagnosis.tables import PARAMETERS
from services.watchdog.core.diagnosis.training import TRAININGS, at_fault
from services.watchdog.core.inputs import (
    AlreadyOpen,
    Answered,
    AnyInput,
    Approval,
    Decision,
    Incident,
    Leads,
    Thresholds,
    Tick,
)
from services.watchdog.core.orders.command import Command
from services.watchdog.core.remedy import Budget, Permit
from services.watchdog.core.rules import symptoms
from services.watchdog.core.safety import afterwards, also, looping, pausing, renewing, stopping
from services.watchdog.core.safety.blast import spares, waits
from services.watchdog.core.safety.policy import Flaps, awaited_s, only_told, unbidden, under_maintenance
from services.watchdog.core.safety.rung import Rung
from services.watchdog.core.safety.verdict import Finding, Verdict
from services.watchdog.core.state import State
from services.watchdog.core.symptom import (
    BAD_LABELS,
    BUS,
    CRASH_LOOP,
    CUT_OFF,
    IDLE,
    OUTSIDE,
    SILENCE,
    SLOW_DEPENDENCY,
    TOLD_AT_ONCE,
    Symptom,
)

_PATIENT = frozenset({SILENCE, CUT_OFF, SLOW_DEPENDENCY})
"""Kinds that may end by themselves soon: who restarts broker and database, and mends networks, is not us."""
_AWAY = frozenset({SILENCE, CRASH_LOOP})
"""Kinds of which a process that is away is restarted, and again slowly."""
_SPENT = "the budget of actions is spent"
SCALES = frozenset({"scale_out", "scale_in"})
"""Changes of the number of processes."""


class Engine:
    """Fed with `step`, one tick at a time. `fence` is 0 while another leads."""

    def __init__(self, thresholds: Thresholds) -> None:
        self.state = State(thresholds)
        self.fence = 0
        self.open: dict[str, Incident] = {}
        self._budget = Budget()
        self._flaps = Flaps()
        self._decisions: list[Decision] = []

    def step(self, tick: Tick, inputs: Sequence[AnyInput]) -> list[Decision]:
        """Take in what came since the tick before, then decide what to do about it."""
        self._decisions = []
        for one in inputs:
            self.state.fold(one, tick)
            match one:
                case Leads():
                    self._lead(one, tick)
                case Answered() if self.fence:
                    self._answered(one, tick)
                case Approval() if self.fence:
                    self._decided(one, tick)
                case AlreadyOpen() if self.fence:
                    self._go_on_with(one.incident, tick)
        self.state.look(tick)
        if self.fence:
            self._judge(tick)
        return self._decisions

    def _lead(self, leads: Leads, tick: Tick) -> None:
        self.fence = leads.fence
        self.open = {}
        for incident in leads.incidents:
            if incident.state != life.VERIFIED:
                self._go_on_with(incident, tick)
        if leads.fence:
            self._budget.remember(leads.incidents, tick)

    def _go_on_with(self, incident: Incident, tick: Tick) -> None:
        """Take up an incident from the store: its working memory begins now, and its rung is given its time again."""
        self.open = {key: known for key, known in self.open.items() if known.key != incident.key}
        now = tick.monotonic_s
        rungs = remedy.ladder(looping.as_silence(incident), self.state)
        rung = len(incident.command_ids)
        verify_s = rungs[min(rung, len(rungs)) - 1].verify_s if rungs and rung else 0.0
        if afterwards.under_way(incident):
            verify_s = self.state.thresholds.replay_verify_s
        if incident.symptom == BAD_LABELS:
            self.state.go_on_with_labels(incident.pipeline, incident.timeline[0].detail)
        model, kinds = self.state.models.get(incident.pipeline), also.remembered(incident, self.state)
        self.open[incident.key] = replace(
            incident, rung=rung, since=now, commanded_at=now, deadline=now + verify_s, answered="", also=kinds,
            from_version=incident.from_version or (model.champion if model is not None else 0))

    def _answered(self, one: Answered, tick: Tick) -> None:
        for incident in self.open.values():
            if incident.command_ids and incident.command_ids[-1] == one.command_id and not incident.answered:
                self._put(life.answered(incident, one, looping.found(incident, one), tick))
                if incident.action == "restart" and incident.symptom in _AWAY:
                    self.state.restarted(incident, one, tick.monotonic_s)
                return

    def _decided(self, word: Approval, tick: Tick) -> None:
        """A person's word counts once, and only on what was asked of them; a yes is bound by the budget alone."""
        for incident in list(self.open.values()):
            if incident.id != word.incident_id or not incident.awaiting or len(incident.command_ids) != word.rung:
                continue
            rung = self._asked(incident)
            if not word.approved and incident.awaiting == afterwards.REPLAY:
                self._close(life.verified(incident, f"{incident.awaiting} was denied by {word.by}", tick), tick)
            elif not word.approved:
                self._escalate(incident, f"{incident.awaiting} was denied by {word.by}", tick)
            elif rung is None or rung.action != incident.awaiting:
                self._escalate(incident, f"{incident.awaiting} is no longer what helps", tick)
            elif rung.action in TRAININGS and self.state.labels_wrong(incident.pipeline):
                told = f"not while labels are wrong: {self.state.labels_wrong(incident.pipeline)}"
                self._put(life.noted(incident, "not yet", f"{rung.action} by {word.by}: {told}", tick),
                          alert=f"{rung.action} of {incident.target} still waits for a person's word, {told}")
            elif self._budget.permit(incident, rung, self.state, tick.monotonic_s) is Permit.SPENT:
                self._escalate(incident, _SPENT, tick)
            else:
                self._command(life.noted(incident, "approved", f"{rung.action} by {word.by}", tick), rung, tick)

    def _asked(self, incident: Incident) -> Rung | None:
        """The step a person was asked about, as it would be taken now."""
        if incident.awaiting == afterwards.REPLAY:
            return afterwards.due(incident, self.state)
        rungs = remedy.ladder(incident, self.state)
        return rungs[incident.rung] if incident.rung < len(rungs) else None

    def _judge(self, tick: Tick) -> None:
        seen = placing.with_capacity(symptoms(self.state, tick), self.state, tick.monotonic_s)
        before, self.state.standing = self.state.standing, frozenset((one.kind, cause(one)) for one in seen)
        for symptom in seen:
            known = self.open.get(f"{symptom.kind}:{cause(symptom)}")
            if (known is not None and not also.came_back(known, before, self.state, tick)) or self._explained(
                    symptom, self.open.values(), tick):
                continue
            if known is not None:
                self._close(life.verified(known, also.ANEW, tick), tick)
            same = also.home(symptom, self.open, before, self.state, tick, remedy.ladder)
            if same is None:
                word = symptom.detail if symptom.kind in TOLD_AT_ONCE or symptom.about == BUS else ""
                opened = self._with_its_silence(self._opened(symptom, seen, tick), tick)
                self._put(also.related(opened, self.open.values(), tick), alert=word)
            elif symptom.kind not in same.also:
                same = also.noted(same, symptom, tick)
                self._put(same, alert=also.word(same))
        for service in {one for incident in self.open.values() for one in placing.about(incident, self.state)}:
            self.state.work.disturb(service)
        for incident in list(self.open.values()):
            self._go_on(incident, tick)

    def _explained(self, symptom: Symptom, by: Collection[Incident], tick: Tick) -> bool:
        by = also.spread(by, self.state)
        return (explained(symptom, by) or looping.explains(symptom, by, self.state)
                or passed_on(symptom, by, self.state, tick.monotonic_s))

    def _with_its_silence(self, opened: Incident, tick: Tick) -> Incident:
        """A crash loop takes over from the silence of its process; of that one nobody is told that it is well."""
        away = self.open.get(f"{SILENCE}:{opened.cause}") if opened.symptom == CRASH_LOOP else None
        if away is None or not looping.takes_over(opened, self.state):
            return opened
        self._put(life.verified(away, f"it is part of a crash loop: {opened.id}", tick))
        return replace(opened, boot_id=away.boot_id, commanded_at=away.commanded_at)

    def _opened(self, symptom: Symptom, seen: Sequence[Symptom], tick: Tick) -> Incident:
        opened = life.opened(symptom.kind, cause(symptom), target(symptom), symptom.pipeline, symptom.detail, tick,
                             symptom.began)
        causes = ranked(symptom, seen, self.state, tick.monotonic_s)
        said = [told(causes), root(symptom, seen, self.state)]
        opened = life.noted(opened, "diagnosed", "; ".join(one for one in said if one), tick)
        return replace(opened, boot_id=symptom.boot_id, from_version=symptom.version,
                       labels=self.state.labels.get(symptom.pipeline, 0))

    def _go_on(self, incident: Incident, tick: Tick) -> None:
        """The next step of an incident, if it is time for one."""
        incident = self._stopped(incident, tick)
        under_way = afterwards.under_way(incident)
        shown = replace(incident, answered="") if under_way else incident
        verdict = also.look(shown, self.open, self.state, tick, verify.look)
        if under_way:
            self._judge_after(incident, afterwards.judged(incident, verdict, tick), tick)
        elif verdict.finding is Finding.WELL:
            self._well(incident, verdict.why, tick)
        elif verdict.finding is Finding.WAIT:
            self._helped(incident, verdict.why, tick)
        elif incident.awaiting:
            if tick.wall_s >= incident.approve_by_s:
                self._escalate(incident, f"nobody approved {incident.awaiting} in time", tick)
        elif incident.state == life.SUSPECTED:
            self._climb(incident, "no command can cure it", tick)
        elif renewing.back(incident, self.state, tick.monotonic_s):
            self._escalate(incident, renewing.BACK, tick)
        elif incident.state == life.ESCALATED:
            self._retry(incident, tick)
        elif verdict.finding is Finding.WORSE or tick.monotonic_s >= incident.deadline:
            self._climb(incident, verdict.why or "no effect in time", tick)

    def _stopped(self, incident: Incident, tick: Tick) -> Incident:
        """With its trainings ended, where they may learn from labels that are found wrong by now."""
        ordered, wrong = stopping.due(incident, self.state)
        while ordered:
            incident = life.noted(incident, stopping.STOPPED, stopping.told(ordered, wrong), tick)
            self._put(incident, command=stopping.command(incident, ordered), alert=incident.timeline[-1].detail)
            ordered, wrong = stopping.due(incident, self.state)
        return incident

    def _well(self, incident: Incident, why: str, tick: Tick) -> None:
        """The symptom is gone: what follows is done, asked for, or told not to be, and then it is closed."""
        rung = afterwards.due(incident, self.state)
        if rung is None:
            self._close(life.verified(incident, why, tick), tick)
            return
        rules = self.state.rules.get(incident.pipeline)
        if incident.awaiting == rung.action:
            if tick.wall_s >= incident.approve_by_s:
                self._close(life.verified(incident, f"{why}; nobody approved {rung.action} in time", tick), tick)
            return
        if under_maintenance(incident, rules, self.state.thresholds, tick.wall_s):
            return
        permit = self._budget.permit(incident, rung, self.state, tick.monotonic_s)
        unwanted = only_told(incident, rung.action, rules, self.state.thresholds) or self._flaps.flapping(
            incident, self.state.thresholds, tick.monotonic_s)
        if permit is Permit.SPENT:
            unwanted = f"the budget of actions is spent: no {rung.action}"
        if unwanted:
            self._close(life.verified(incident, f"{why}; {unwanted}", tick), tick)
        elif permit is Permit.GO:
            self._command_or_ask(incident, rung, tick)

    def _helped(self, incident: Incident, why: str, tick: Tick) -> None:
        """What was done shows its effect, and is still needed: that is told once."""
        if why and all(note.what != "helped" for note in incident.timeline):
            self._put(life.noted(incident, "helped", why, tick))

    def _judge_after(self, incident: Incident, verdict: Verdict, tick: Tick) -> None:
        if verdict.finding is Finding.WELL:
            self._close(life.verified(incident, verdict.why, tick), tick)
        elif verdict.finding is Finding.WORSE:
            self._escalate(incident, verdict.why, tick)

    def _close(self, incident: Incident, tick: Tick) -> None:
        if incident.cause == BUS:
            self.state.lives.forgive(tick.monotonic_s)
        self._flaps.ended(incident, tick.monotonic_s)
        lifts = remedy.lifts(incident, self.state, tick)
        for lift in lifts:
            incident = life.noted(incident, "let go", lift.target, tick)
        self._put(incident, command=lifts[0] if lifts else None, alert=f"well again: {incident.verdict}")
        for lift in lifts[1:]:
            self._put(incident, command=lift)

    def _climb(self, incident: Incident, why: str, tick: Tick) -> None:
        """Take the next rung that is allowed; where there is none, tell a person."""
        others = [other for other in self.open.values() if other.key != incident.key]
        if self._explained(remedy.symptom_of(incident), others, tick):
            return
        rungs = remedy.ladder(incident, self.state)
        if incident.symptom == OUTSIDE and not self.state.outside.urgent(incident.cause):
            return
        if incident.rung >= len(rungs):
            if rungs or tick.monotonic_s >= incident.since + self._patience_s(incident):
                self._escalate(incident, why, tick)
            return
        if incident.symptom == CUT_OFF and not incident.rung and tick.monotonic_s < incident.since + self._patience_s(
                incident):
            # It works as far as it can: a way that is open again is better than a new process.
            return
        rung = rungs[incident.rung]
        rules = self.state.rules.get(incident.pipeline)
        if under_maintenance(incident, rules, self.state.thresholds, tick.wall_s):
            return
        unwanted = only_told(incident, rung.action, rules, self.state.thresholds) or self._flaps.flapping(
            incident, self.state.thresholds, tick.monotonic_s)
        if unwanted:
            self._escalate(incident, unwanted, tick)
            return
        if rung.action in TRAININGS and self._labels_first(incident, rung, tick):
            return
        permit = self._budget.permit(incident, rung, self.state, tick.monotonic_s)
        if permit is Permit.SPENT:
            self._escalate(incident, _SPENT, tick)
        elif permit is Permit.GO and self._spares(incident, rung, tick):
            self._command_or_ask(incident, rung, tick)
        elif rung.action in SCALES and (
                tick.monotonic_s >= max(incident.since, incident.commanded_at) + 2 * rung.verify_s):
            self._escalate(incident, "not all of its processes are ready", tick)
        elif permit is Permit.GO:
            self._waits(incident, waits(self.state, incident, self.open.values(), tick.monotonic_s), tick)

    def _labels_first(self, incident: Incident, rung: Rung, tick: Tick) -> bool:
        """Whether a training waits since labels are wrong, or may be: what they teach would only be undone. Somebody is
        told once: a model that does not answer cannot show that they are right again."""
        wrong = self.state.labels_wrong(incident.pipeline)
        self._waits(incident, wrong and f"{rung.action} waits until labels are right: {wrong}", tick)
        return bool(wrong) or self.state.labels_unsure(incident.pipeline)

    def _waits(self, incident: Incident, told: str, tick: Tick) -> None:
        if told and all(note.what != "waits" for note in incident.timeline):
            self._put(life.noted(incident, "waits", told, tick),
                      alert=f"a person is needed: {incident.timeline[0].detail}; {told}")

    def _command_or_ask(self, incident: Incident, rung: Rung, tick: Tick) -> None:
        within_s = awaited_s(rung.action, self.state.rules.get(incident.pipeline), self.state.thresholds)
        if not within_s:
            self._command(incident, rung, tick)
            return
        what = f"{rung.action} of {incident.target}"
        self._put(life.asked(incident, rung.action, within_s, tick),
                  alert=f"{what} waits for a person's word for {within_s:g} s: `lepton incidents approve {incident.id}`"
                        f" or `deny`; {incident.timeline[0].detail}")

    def _spares(self, incident: Incident, rung: Rung, tick: Tick) -> bool:
        """Who is silent serves nobody; one that still works waits until the others of its service can stand in."""
        if rung.action in SCALES:
            return self.state.lives.steady(remedy.service(incident), tick.monotonic_s)
        if rung.action not in ("restart", "drain") or incident.symptom == SILENCE:
            return True
        return spares(self.state, incident, self.open.values(), tick.monotonic_s)

    def _command(self, incident: Incident, rung: Rung, tick: Tick) -> None:
        blamed = at_fault(incident, self.state) if rung.action == "tune" else ""
        if blamed:
            incident = life.noted(incident, "diagnosed", f"{PARAMETERS}: {blamed}", tick)
        incident = remedy.aimed(incident, self.state)
        command = remedy.command(incident, rung, self.state, tick)
        self._budget.charge(incident, rung.action, tick.monotonic_s)
        if rung.action == "scale_out":
            service = remedy.service(incident)
            self.state.work.filled(service, len(self.state.lives.of(service)), tick.monotonic_s)
        if rung.action == "shed":
            self.state.begin_shed(incident.pipeline)
        if rung.action in remedy.HOLDS:
            before = incident.held if tick.monotonic_s < incident.held_until else ()
            incident = replace(incident, held=tuple(dict.fromkeys((*before, command.target))),
                               held_until=tick.monotonic_s + self.state.thresholds.hold_s)
        self._put(life.commanded(incident, command.command_id, rung.action, rung.verify_s, tick), command=command,
                  alert=f"{rung.action} of {incident.target}: {incident.timeline[0].detail}")

    def _retry(self, incident: Incident, tick: Tick) -> None:
        """A process that stays silent is restarted again, slowly: what kept it down may be gone by now. A pipeline that
        is paused is tried, slowlier each time."""
        limits = self.state.thresholds
        if under_maintenance(incident, self.state.rules.get(incident.pipeline), limits, tick.wall_s):
            return
        probe = pausing.due(incident, self.state, tick.monotonic_s)
        if probe is not None:
            if self._budget.permit(incident, probe, self.state, tick.monotonic_s) is Permit.GO:
                self._command(incident, probe, tick)
            return
        away = incident.symptom == SILENCE or looping.silent(incident, self.state)
        rungs = remedy.ladder(looping.as_silence(incident), self.state) if away else ()
        if not rungs or not unbidden(rungs[-1].action, None, limits) or (
                tick.monotonic_s - incident.commanded_at < limits.retry_s):
            return
        permit = self._budget.permit(incident, rungs[-1], self.state, tick.monotonic_s)
        if permit is Permit.GO:
            self._command(incident, rungs[-1], tick)
        elif permit is Permit.SPENT and incident.symptom == CRASH_LOOP and incident.verdict != _SPENT:
            self._escalate(incident, _SPENT, tick)

    def _escalate(self, incident: Incident, why: str, tick: Tick) -> None:
        self._put(life.escalated(incident, why, tick), alert=also.needed(incident, why, self.state))

    def _patience_s(self, incident: Incident) -> float:
        """How long what no command can cure may take to cure itself before a person is told."""
        return self.state.thresholds.patience_s if incident.symptom in _PATIENT else 0.0

    def _put(self, incident: Incident, *, command: Command | None = None, alert: str = "") -> None:
        if incident.state == life.VERIFIED:
            self.open.pop(incident.key, None)
        else:
            self.open[incident.key] = incident
        rules = self.state.rules.get(incident.pipeline)
        # That there is too little to do needs nobody, unless it is to be decided.
        quiet = incident.symptom == IDLE and incident.state != life.ESCALATED
        self._decisions.append(Decision(incident, command, "" if quiet else alert,
                                        rules.notify if rules is not None else ()))
