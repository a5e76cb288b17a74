"""The watchdog's mind: inputs up to a tick in, decisions out; the same inputs always give the same decisions.

While it does not lead (another watchdog holds the lease) it takes everything in and decides nothing.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from services.watchdog.core import incident as life
from services.watchdog.core import remedy, verify
from services.watchdog.core.diagnose import cause, explained, target
from services.watchdog.core.inputs import (
    AlreadyOpen,
    Answered,
    AnyInput,
    Command,
    Decision,
    Incident,
    Leads,
    Thresholds,
    Tick,
)
from services.watchdog.core.remedy import Budget, Permit
from services.watchdog.core.rules import BUS, LINE_STOPPED, SILENCE, TRAINING_FAILURE, Symptom, symptoms
from services.watchdog.core.state import State
from services.watchdog.core.verify import Finding


class Engine:
    """Fed with `step`, one tick at a time. `fence` is 0 while another leads."""

    def __init__(self, thresholds: Thresholds) -> None:
        self.state = State(thresholds)
        self.fence = 0
        self.open: dict[str, Incident] = {}
        self._budget = Budget()
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
                case AlreadyOpen() if self.fence:
                    self._go_on_with(one.incident, tick)
        self.state.lives.look(tick)
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
        for key in [key for key, known in self.open.items() if known.key == incident.key]:
            del self.open[key]
        now = tick.monotonic_s
        rungs = remedy.ladder(incident, self.state)
        rung = len(incident.command_ids)
        verify_s = rungs[min(rung, len(rungs)) - 1].verify_s if rungs and rung else 0.0
        model = self.state.models.get(incident.pipeline)
        self.open[incident.key] = replace(
            incident, rung=rung, since=now, commanded_at=now, deadline=now + verify_s, answered="",
            from_version=incident.from_version or (model.champion if model is not None else 0))

    def _answered(self, one: Answered, tick: Tick) -> None:
        for incident in self.open.values():
            if incident.command_ids and incident.command_ids[-1] == one.command_id and not incident.answered:
                self._put(life.answered(incident, one.outcome, one.evidence, tick))
                return

    def _judge(self, tick: Tick) -> None:
        for symptom in symptoms(self.state, tick):
            if f"{symptom.kind}:{cause(symptom)}" not in self.open and not explained(symptom, self.open.values()):
                self._put(self._opened(symptom, tick), alert=_first_alert(symptom))
        for incident in list(self.open.values()):
            self._go_on(incident, tick)

    def _opened(self, symptom: Symptom, tick: Tick) -> Incident:
        opened = life.opened(symptom.kind, cause(symptom), target(symptom), symptom.pipeline, symptom.detail, tick)
        return replace(opened, boot_id=symptom.boot_id, from_version=symptom.version,
                       labels=self.state.labels.get(symptom.pipeline, 0))

    def _go_on(self, incident: Incident, tick: Tick) -> None:
        """The next step of an incident, if it is time for one."""
        verdict = verify.look(incident, self.state, tick)
        if verdict.finding is Finding.WELL:
            self._close(life.verified(incident, verdict.why, tick), tick)
        elif verdict.finding is Finding.WAIT:
            return
        elif incident.state == life.SUSPECTED:
            self._climb(incident, "no command can cure it", tick)
        elif incident.state == life.ESCALATED:
            self._retry(incident, tick)
        elif verdict.finding is Finding.WORSE or tick.monotonic_s >= incident.deadline:
            self._climb(incident, verdict.why or "no effect in time", tick)

    def _close(self, incident: Incident, tick: Tick) -> None:
        if incident.cause == BUS:
            self.state.lives.forgive(tick.monotonic_s)
        self._put(incident, alert=f"well again: {incident.verdict}")

    def _climb(self, incident: Incident, why: str, tick: Tick) -> None:
        """Take the next rung that is allowed; where there is none, tell a person."""
        if explained(_symptom_of(incident), [other for other in self.open.values() if other.key != incident.key]):
            return
        rungs = remedy.ladder(incident, self.state)
        if incident.rung >= len(rungs):
            if rungs or tick.monotonic_s >= incident.since + self._patience_s(incident):
                self._escalate(incident, why, tick)
            return
        rung = rungs[incident.rung]
        permit = self._budget.permit(incident, rung, self.state, tick.monotonic_s)
        if permit is Permit.SPENT:
            self._escalate(incident, "the budget of actions is spent", tick)
        elif permit is Permit.GO:
            self._command(incident, rung, tick)

    def _command(self, incident: Incident, rung: remedy.Rung, tick: Tick) -> None:
        incident = self._aimed(incident)
        command = remedy.command(incident, rung, self.state, tick)
        self._budget.charge(incident, rung.action, tick.monotonic_s)
        self._put(life.commanded(incident, command.command_id, rung.action, rung.verify_s, tick), command=command,
                  alert=f"{rung.action} of {incident.target}: {incident.timeline[0].detail}")

    def _aimed(self, incident: Incident) -> Incident:
        """A later rung is about the version that answers now, or the process that is silent now."""
        model = self.state.models.get(incident.pipeline)
        alive = self.state.lives.by_name.get(incident.target.removeprefix("instance:"))
        return replace(incident, from_version=model.champion if model is not None else incident.from_version,
                       boot_id=alive.boot_id if alive is not None else incident.boot_id)

    def _retry(self, incident: Incident, tick: Tick) -> None:
        """A process that stays silent is restarted again, slowly: what kept it down may be gone by now."""
        rungs = remedy.ladder(incident, self.state)
        if incident.symptom != SILENCE or not rungs:
            return
        if tick.monotonic_s - incident.commanded_at < self.state.thresholds.retry_s:
            return
        if self._budget.permit(incident, rungs[-1], self.state, tick.monotonic_s) is Permit.GO:
            self._command(incident, rungs[-1], tick)

    def _escalate(self, incident: Incident, why: str, tick: Tick) -> None:
        what = incident.timeline[0].detail
        self._put(life.escalated(incident, why, tick), alert=f"a person is needed: {what}; {why}")

    def _patience_s(self, incident: Incident) -> float:
        """How long what no command can cure may take to cure itself before a person is told."""
        return self.state.thresholds.patience_s if incident.symptom == SILENCE else 0.0

    def _put(self, incident: Incident, *, command: Command | None = None, alert: str = "") -> None:
        if incident.state == life.VERIFIED:
            self.open.pop(incident.key, None)
        else:
            self.open[incident.key] = incident
        rules = self.state.rules.get(incident.pipeline)
        self._decisions.append(Decision(incident, command, alert, rules.notify if rules is not None else ()))


def _first_alert(symptom: Symptom) -> str:
    return symptom.detail if symptom.kind in (LINE_STOPPED, TRAINING_FAILURE) or symptom.about == BUS else ""


def _symptom_of(incident: Incident) -> Symptom:
    return Symptom(incident.symptom, incident.cause if incident.cause == BUS else incident.target.partition(":")[2], "",
                   incident.pipeline)
