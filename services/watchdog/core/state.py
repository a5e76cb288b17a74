"""All the watchdog knows, folded from inputs; it holds no opinion."""

from dataclasses import dataclass, field

from services.watchdog.core.alerting.outside import Outside
from services.watchdog.core.calling.graph import Graph
from services.watchdog.core.guessing.estimate import Estimates
from services.watchdog.core.inputs import (
    READY,
    Alerted,
    Announced,
    Answered,
    AnyInput,
    Beat,
    Called,
    ClientsSeen,
    Failures,
    Figures,
    Incident,
    Judged,
    Lines,
    ModelSeen,
    Predicted,
    Reached,
    Requests,
    Rules,
    RunEnded,
    Thresholds,
    Tick,
    Unusable,
)
from services.watchdog.core.lines.rates import SETTLE_S, Rates
from services.watchdog.core.load.clients import Abuser, Clients
from services.watchdog.core.load.dependencies import Dependencies
from services.watchdog.core.load.levels import Cut, Levels
from services.watchdog.core.load.refusals import Refusals
from services.watchdog.core.load.usage import Usage
from services.watchdog.core.load.work import Work
from services.watchdog.core.quality.feedback import Feedback
from services.watchdog.core.quality.fields import Fields
from services.watchdog.core.quality.kept import Kept
from services.watchdog.core.quality.loss import Loss, Reference, Window, judge, reached, stricter
from services.watchdog.core.quality.pauses import Pauses
from services.watchdog.core.quality.schemas import Schemas
from services.watchdog.core.quality.sources import Sources
from services.watchdog.core.quality.turned import Turned
from services.watchdog.core.quality.unusable import UnusableVersions
from services.watchdog.core.rows.patterns import AllPatterns
from services.watchdog.core.signals import Lives
from services.watchdog.core.slo.promises import Promises
from services.watchdog.core.slo.speed import Speeds
from services.watchdog.core.summaries.counts import Labelled, Opined, RowsSeen, total

PREDICTOR = "predictor"


@dataclass(slots=True)
class State:
    """Signals by what they are about."""

    thresholds: Thresholds
    lives: Lives = field(init=False)
    usage: Usage = field(init=False)
    dependencies: Dependencies = field(init=False)
    graph: Graph = field(init=False)
    lines: Rates = field(init=False)
    refusals: Refusals = field(init=False)
    estimates: Estimates = field(init=False)
    clients: Clients = field(init=False)
    levels: Levels = field(default_factory=Levels)
    work: Work = field(default_factory=Work)
    standing: frozenset[tuple[str, str]] = frozenset()
    """Kind and cause of all that is wrong at this tick."""
    rules: dict[str, Rules] = field(default_factory=dict)
    models: dict[str, ModelSeen] = field(default_factory=dict)
    windows: dict[str, Window] = field(default_factory=dict)
    """By pipeline: labelled predictions of its present champion."""
    former: dict[str, Reference] = field(default_factory=dict)
    """By model, what the champion before did when it was replaced; while the present one is young."""
    turned: dict[str, Turned] = field(default_factory=dict)
    """By model, whether it is its labels that are wrong."""
    _losses: dict[str, tuple[Window, int, Reference | None, Loss | None]] = field(default_factory=dict)
    """By pipeline, the judgement of its window as it was then."""
    labels: dict[str, int] = field(default_factory=dict)
    """By pipeline, labelled predictions seen of any version."""
    news: dict[str, float] = field(default_factory=dict)
    """By pipeline, when a labelled prediction or a new champion was seen last."""
    sources: dict[str, Sources] = field(default_factory=dict)
    fields: dict[str, Fields] = field(default_factory=dict)
    schemas: dict[str, Schemas] = field(default_factory=dict)
    pauses: Pauses = field(default_factory=Pauses)
    patterns: AllPatterns = field(default_factory=AllPatterns)
    promises: Promises = field(default_factory=Promises)
    speeds: Speeds = field(default_factory=Speeds)
    outside: Outside = field(default_factory=Outside)
    promoted: dict[str, float] = field(default_factory=dict)
    """By model, when its champion changed while we watched."""
    feedback: Feedback = field(default_factory=Feedback)
    unusable: UnusableVersions = field(default_factory=UnusableVersions)
    kept: Kept = field(default_factory=Kept)
    runs: dict[str, RunEnded] = field(default_factory=dict)
    """By model, the run that ended last."""

    def __post_init__(self) -> None:
        self.lives = Lives(self.thresholds)
        self.graph = Graph(self.lives)
        self.usage = Usage(self.thresholds.limits)
        self.dependencies = Dependencies(self.thresholds.limits)
        self.lines = Rates(self.thresholds.limits)
        self.refusals = Refusals(self.thresholds.limits)
        self.estimates = Estimates(self.thresholds.no_labels_s)
        self.clients = Clients(self.thresholds.limits)

    def fold(self, one: AnyInput, tick: Tick) -> None:
        """Take in an input that came by this tick."""
        now = tick.monotonic_s
        match one:
            case Beat():
                self._beat(one, now)
            case Figures():
                self.usage.figures(one, now)
                self.dependencies.figures(one, now)
                self.kept.figures(one, now)
                self.pauses.figures(one, now)
            case Failures():
                self.usage.failures(one, now)
            case Lines():
                self._lines(one, now)
            case Called():
                self.graph.see(one, now)
            case Announced():
                self.lives.announce(one, now)
                self.graph.announce(one)
                if one.gone:
                    self.lines.gone(one.instance)
                    self.pauses.gone(one.instance)
            case Reached():
                self.lives.reached(one.instance, now)
            case Rules():
                self._rule(one)
            case ModelSeen():
                self._model(one, now)
            case RowsSeen(brief=True):
                self.patterns.long_ago(one, now)
            case RowsSeen() if one.pipeline in self.rules:
                sources = self.sources.setdefault(one.pipeline, Sources())
                sources.see(one, self.rules[one.pipeline], now)
                self.fields.setdefault(one.pipeline, Fields()).see(one, self.rules[one.pipeline], now)
                self.schemas.setdefault(one.pipeline, Schemas()).see(one, self.rules[one.pipeline], now)
                self.patterns.rows(one, now, sources.bad(self.rules[one.pipeline], now))
                self.work.add("ingest", total(one), total(one), now)
            case Predicted():
                self.patterns.answered(one, now)
                self.estimates.answered(one, now, lambda: self._labelled_well(one.pipeline))
            case Requests():
                self._requests(one, now)
            case ClientsSeen():
                self.clients.see(one, now)
            case Judged():
                self._judged(one, now)
            case Labelled():
                self.patterns.labelled(one, now)
            case Opined() if one.pipeline in self.rules and one.pipeline in self.models:
                self.feedback.see(one, self.rules[one.pipeline].feedback, self.models[one.pipeline], now)
            case Unusable():
                self.unusable.see(one, now)
            case Alerted():
                self.outside.see(one)
            case RunEnded():
                self.runs[one.model] = one
            case _:
                # Tick, Leads and what concerns incidents are the engine's.
                return

    def look(self, tick: Tick) -> None:
        """Take note of the time that passed."""
        self.lives.look(tick)
        self.outside.look(tick)
        now = tick.monotonic_s
        self.graph.look(now)
        hearing = self.lives.may_judge(now)
        self.usage.look(now, hearing)
        self.dependencies.look(now, hearing)
        slow = next(self.dependencies.symptoms(now), None)
        self.lines.look(now, slow is None and self.lives.calm(now, SETTLE_S))
        self.refusals.look(now)
        self.clients.look(now, self.refusals.troubled())
        self.levels.look(now, len(self.lives.of(PREDICTOR)))
        self._idling(hearing, now)
        self._grown_up(now)
        self.speeds.look(now, self.thresholds.young_s)
        self.patterns.look(now)
        for name in self.windows:
            self._look_at_labels(name, now)

    def reference(self, model: str) -> Reference | None:
        """What the champion is held to: its figure at publication, and what the one before did lately where that is
        better: a version that was bad already when it was published is found out by that alone."""
        rules = self.rules.get(model)
        if rules is None or rules.quality is None:
            return None
        return stricter(rules.quality.metric, self.published(model), self.former.get(model))

    def loss(self, model: str) -> Loss | None:
        """What the champion's labels say of it; None while they say nothing."""
        window, reference, known = self.windows.get(model), self.reference(model), self._losses.get(model)
        if window is None:
            return None
        if known is None or known[0] is not window or known[1:3] != (window.seen, reference):
            known = self._losses[model] = (window, window.seen, reference, judge(window, reference))
        return known[3]

    def labels_heard(self, pipeline: str) -> bool:
        """Whether labels came since this watchdog began, so that it knows of their absence; of none there are, too."""
        rules = self.rules.get(pipeline)
        return rules is None or rules.quality is None or self.patterns.labelled_before(pipeline)

    def volume_known(self, pipeline: str) -> bool:
        """Whether enough summaries came since this watchdog began to say how many rows come; of no pipeline, too."""
        return pipeline not in self.rules or self.patterns.volume_known(pipeline)

    def labels_wrong(self, pipeline: str) -> str:
        """How its labels are wrong, as far as that is known now; empty while they are not."""
        return self.turned[pipeline].standing if pipeline in self.turned else ""

    def go_on_with_labels(self, pipeline: str, told: str) -> None:
        """They were found wrong before this watchdog began to look, or led: until they show otherwise."""
        if pipeline in self.windows:
            self.turned.setdefault(pipeline, Turned()).go_on(told)

    def labels_unsure(self, pipeline: str) -> bool:
        """Whether a few labels more may say that they are wrong."""
        return pipeline in self.turned and self.turned[pipeline].waits

    def _look_at_labels(self, name: str, now: float) -> None:
        model, window = self.models.get(name), self.windows[name]
        if model is None:
            return
        newest = self.turned.setdefault(name, Turned()).look(
            window, model, self.loss(name), lambda: self._calm(name, now), now)
        if newest is not None:
            self.fresh_window(name)
            for row in list(window.rows)[-newest:]:
                self.windows[name].add(row)

    def _calm(self, name: str, now: float) -> bool:
        """Whether rows and answers are as usual, as far as is known yet."""
        rules, sources, fields = self.rules[name], self.sources.get(name), self.fields.get(name)
        return not (self.patterns.unusual(name) or (sources is not None and sources.bad(rules, now))
                    or (fields is not None and fields.suspect(now)))

    def published(self, model: str) -> Reference | None:
        """What the champion's watched metric was at publication; None when it was not measured then."""
        seen, rules = self.models.get(model), self.rules.get(model)
        if seen is None or rules is None or rules.quality is None:
            return None
        value = seen.metrics.get(rules.quality.metric)
        return None if value is None else Reference(value, seen.held_out)

    def abuser(self, model: str) -> Abuser | None:
        """The client whose growth is what finds no room with this model; None where there is none."""
        asked, refused = self.refusals.rates(model)
        return self.clients.abuser(model, asked, refused) if refused else None

    def cut(self, model: str) -> Cut | None:
        """What has to be turned away of this model, by priority, for the rest to find room; None where that is nothing,
        or would not do."""
        asked, refused = self.refusals.rates(model)
        return self.levels.cut(model, asked, refused) if refused else None

    def begin_shed(self, model: str) -> None:
        """What `cut` says is ordered now."""
        cut = self.cut(model)
        if cut is not None:
            self.levels.begin(model, cut, len(self.lives.of(PREDICTOR)))

    def fresh_window(self, model: str) -> None:
        """Forget the labelled predictions so far: what comes now is judged by itself."""
        rules = self.rules.get(model)
        if rules is not None and rules.quality is not None:
            self.windows[model] = Window(rules.quality)

    def _labelled_well(self, pipeline: str) -> bool:
        loss = self.loss(pipeline)
        return loss is not None and not loss.lost

    def _grown_up(self, now: float) -> None:
        """What the version before did under another sky says nothing after a while, unless that is what is lost."""
        for model in [one for one in self.former if now - self.promoted.get(one, now) > self.thresholds.young_s]:
            loss = self.loss(model)
            if loss is None or not loss.lost:
                del self.former[model]

    def _requests(self, seen: Requests, now: float) -> None:
        self.promises.see(seen, now)
        self.speeds.see(seen, now)
        self.refusals.see(seen, now)
        self.levels.see(seen, now)
        came = seen.ok + seen.failed
        self.work.add(PREDICTOR, came + seen.shed, came - seen.refused, now)

    def _idling(self, hearing: bool, now: float) -> None:
        """Which of the services that may be scaled have nothing that waits, and only processes that work."""
        if not self.thresholds.replicas:
            return
        busy = self.usage.busy() | ({PREDICTOR} if self.refusals.any else set())
        for service in self.thresholds.replicas:
            found = self.lives.of(service)
            calm = hearing and service not in busy and self.lives.steady(service, now)
            self.work.look(service, len(found), calm, now)

    def _beat(self, beat: Beat, now: float) -> None:
        before = self.lives.by_name.get(beat.instance)
        if before is not None and before.boot_id not in ("", beat.boot_id) and not before.leaving and not before.begun:
            self.usage.crashed(beat.instance, now)
        self.lives.beat(beat, now)
        if beat.state == READY:
            self.lines.heard(beat.instance, now)

    def restarted(self, incident: Incident, answer: Answered, now: float) -> None:
        """The silent process of an incident was begun anew, in the place of one that ended by itself or was ended now.
        One that did not come up, or of which that is not known, counts as who ended, if it did.

        Where another boot than the restart was for is heard by now, its first heartbeat counted. Who was never heard
        and was ended for the restart did not die: it may have been slow to start.
        """
        instance = incident.target.removeprefix("instance:")
        life = self.lives.by_name.get(instance)
        if life is None or life.leaving or not life.boot_id or life.boot_id != incident.boot_id:
            return
        done, ended = answer.outcome == "done", instance in answer.found_ended
        if ended or (done and not life.begun):
            self.usage.crashed(instance, now)
        life.begun = life.begun or done or ended

    def _lines(self, lines: Lines, now: float) -> None:
        """Only of a process that works: one that starts or ends complains of what it does not have yet, or any more."""
        life = self.lives.by_name.get(lines.instance)
        if life is not None and life.state == READY:
            self.lines.see(lines, now)

    def _rule(self, rules: Rules) -> None:
        self.patterns.rule(rules)
        self.promises.rule(rules)
        self.speeds.rule(rules)
        if rules.deleted:
            for known in (self.rules, self.windows, self.sources, self.fields, self.schemas, self.runs, self.former,
                          self.turned, self._losses):
                known.pop(rules.pipeline, None)
            self.estimates.gone(rules.pipeline)
            self.feedback.gone(rules.pipeline)
            return
        before = self.rules.get(rules.pipeline)
        self.rules[rules.pipeline] = rules
        self.estimates.begin(self.models.get(rules.pipeline), rules)
        if before is not None and before.feedback != rules.feedback:
            self.feedback.gone(rules.pipeline)
        if before is None or before.quality != rules.quality:
            self.windows.pop(rules.pipeline, None)
            # What was measured by another rule is no measure of this one.
            self.former.pop(rules.pipeline, None)
            self.turned.pop(rules.pipeline, None)
            self.fresh_window(rules.pipeline)

    def _model(self, seen: ModelSeen, now: float) -> None:
        before = self.models.get(seen.model)
        if before is not None and seen.revision < before.revision:
            return
        self.models[seen.model] = seen
        self.estimates.begin(seen, self.rules.get(seen.model))
        if before is None or before.champion != seen.champion:
            if before is not None:
                self.promoted[seen.model] = now
                self._succeeded(seen.model)
            if before is not None and seen.champion > before.champion:
                self.patterns.retrained(seen.model)
            self.speeds.crowned(seen.model, now, another=before is not None)
            self.fresh_window(seen.model)
            self.feedback.crowned(seen.model, seen.champion)
            self.news[seen.model] = now

    def _succeeded(self, model: str) -> None:
        """Where the champion before answered too few labels to say how good it was, the one before it still counts."""
        window = self.windows.get(model)
        found = reached(window) if window is not None else None
        if found is not None:
            self.former[model] = found

    def _judged(self, row: Judged, now: float) -> None:
        self.news[row.pipeline] = now
        self.labels[row.pipeline] = self.labels.get(row.pipeline, 0) + 1
        if not self.labels_wrong(row.pipeline):
            self.estimates.judged(row, now)
        self.patterns.judged(row)
        window, model = self.windows.get(row.pipeline), self.models.get(row.pipeline)
        if window is not None and model is not None and row.version == model.champion:
            window.add(row)
        elif row.pipeline in self.turned:
            self.turned[row.pipeline].late(row)
