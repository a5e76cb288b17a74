"""What reaches the watchdog between two ticks: messages in, inputs of the core out; predictions joined on the way."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from zlib import crc32

from lepton.clock import Clock
from lepton.contracts.arrow.predictions import Served
from lepton.contracts.feedback.opinions import Opinion
from lepton.contracts.pb import (
    models_pb2,
    outcomes_pb2,
    quality_pb2,
    recovery_pb2,
    telemetry_pb2,
    training_pb2,
)
from lepton.contracts.pipeline import Pipeline
from lepton.errors import Invalid
from services.watchdog.core.guessing.calibrated import percent
from services.watchdog.core.inputs import Answered, AnyInput, Approval, Figures, Predicted, Rules
from services.watchdog.core.quality.join import Joiner, Prediction
from services.watchdog.core.quality.opinions import Opinions
from services.watchdog.core.summaries.counts import Labelled
from services.watchdog.flow import translate

# Far above what ticks a quarter of a second apart see; a bound for the time in which nobody takes.
MAX_INPUTS = 20_000
# Figures that did not change are said again after this time.
SAY_ALL_S = 10.0
# Different names and numbers that a version answered with, of a tick and pipeline.
MAX_NAMES, MAX_NUMBERS = 100, 50


@dataclass(slots=True)
class _Said:
    """What of a process's figures was handed on; `at`: when all of them were."""

    boot_id: str
    at: float
    values: dict[tuple[str, str], float]


@dataclass(slots=True)
class Answers:
    """What a version answered since the tick before; of names all are counted, of numbers the first are kept."""

    names: dict[str, int] = field(default_factory=dict)
    numbers: list[float] = field(default_factory=list)
    sure: dict[int, int] = field(default_factory=dict)

    def add(self, answer: str | float, sure: float | None) -> None:
        if sure is not None:
            place = percent(sure)
            self.sure[place] = self.sure.get(place, 0) + 1
        if isinstance(answer, str):
            if answer in self.names or len(self.names) < MAX_NAMES:
                self.names[answer] = self.names.get(answer, 0) + 1
        elif len(self.numbers) < MAX_NUMBERS and math.isfinite(answer):
            self.numbers.append(float(f"{answer:.6g}"))


class Observing:
    """Collects; never waits. `own` is the name of this instance."""

    def __init__(self, own: str, clock: Clock) -> None:
        self._own = own
        self._clock = clock
        self._inputs: list[AnyInput] = []
        self._joiners: dict[str, Joiner] = {}
        self._opinions: dict[str, Opinions] = {}
        self._said: dict[str, _Said] = {}
        self._answers: dict[tuple[str, int], Answers] = {}
        self._labelled: dict[tuple[str, bool], int] = {}
        self._notify: dict[str, tuple[str, ...]] = {}
        self._models: set[str] = set()
        self.dropped = 0

    def heartbeat(self, message: telemetry_pb2.Telemetry) -> None:
        if message.alerts:
            for alerted in translate.alerted(message):
                self.put(alerted)
            return
        lag_s = None
        if message.instance == self._own:
            lag_s = self._clock.now().timestamp() - message.at.ToNanoseconds() / 1e9
        self.put(translate.beat(message, lag_s))
        failures = translate.failures(message)
        if failures is not None:
            self.put(failures)
        lines = translate.lines(message)
        if lines is not None:
            self.put(lines)
        clients = translate.clients(message)
        if clients is not None:
            self.put(clients)
        called = translate.called(message)
        if called is not None:
            self.put(called)
        for requests in translate.requests(message):
            self.put(requests)
        for unusable in translate.unusable(message):
            self.put(unusable)
        self._figures(message)

    def _figures(self, message: telemetry_pb2.Telemetry) -> None:
        """Hand on what changed since it was last said, and everything now and then, so that silence shows."""
        readings = translate.readings(message)
        if not readings:
            return
        now = self._clock.monotonic()
        said = self._said.get(message.instance)
        if said is None:
            # Not all at the same moment, where many began at the same.
            early_s = crc32(message.instance.encode()) % 1000 / 1000 * SAY_ALL_S
            self._said[message.instance] = _Said(message.boot_id, now - early_s, dict(readings))
            changed = readings
        elif said.boot_id != message.boot_id or now - said.at >= SAY_ALL_S:
            self._said[message.instance] = _Said(message.boot_id, now, dict(readings))
            changed = readings
        else:
            changed = {key: value for key, value in readings.items() if said.values.get(key) != value}
            said.values.update(changed)
        if changed:
            self.put(Figures(message.instance, message.service, message.boot_id,
                             tuple((name, about, value) for (name, about), value in changed.items())))

    def instance(self, name: str, message: telemetry_pb2.Instance | None) -> None:
        if message is None:
            self._said.pop(name, None)
        self.put(translate.announced(name, message))

    def pipeline(self, name: str, pipeline: Pipeline | None) -> None:
        """A pipeline as it is now; None: it was deleted."""
        if pipeline is None:
            self._joiners.pop(name, None)
            self._opinions.pop(name, None)
            self._notify.pop(name, None)
            self.put(Rules(name, deleted=True))
            return
        self._joiners.setdefault(name, Joiner(name))
        self._notify[name] = pipeline.heal.notify
        self.put(translate.rules(pipeline))

    def named(self, pipeline: str) -> tuple[str, ...]:
        """Addresses that a pipeline names itself."""
        return self._notify.get(pipeline, ())

    def known(self) -> dict[str, set[str]]:
        """What is announced now, by the collection that holds it."""
        return {"pipelines": set(self._notify), "models": set(self._models)}

    def no_model(self, name: str) -> None:
        """The registry announces it no more."""
        self._models.discard(name)

    def model(self, state: models_pb2.ModelState) -> None:
        self._models.add(state.model)
        joiner = self._joiners.setdefault(state.model, Joiner(state.model))
        joiner.classes = {one.version: tuple(one.manifest.classes) for one in state.versions}
        self.put(translate.model(state))

    def summary(self, summary: quality_pb2.QualitySummary, *, brief: bool = False) -> None:
        """`brief`: one of long ago, of which only the number of rows is kept: what is usual is learnt from it."""
        now_s = self._clock.now().timestamp()
        self.put(translate.counted(summary, now_s) if brief else translate.rows(summary, now_s))

    def predicted(self, pipeline: str, served: Iterable[Served]) -> None:
        joiner = self._joiners.get(pipeline)
        if joiner is None:
            return
        now, opinions = self._clock.monotonic(), self._opinions.get(pipeline)
        for event_id, version, answer, probabilities in served:
            prediction = Prediction(version, answer, probabilities, now)
            joiner.predicted(event_id, prediction)
            if opinions is not None and opinions.waiting:
                opinions.predicted(event_id, version)
            self._answers.setdefault((pipeline, version), Answers()).add(answer, joiner.sure(prediction))

    def turned_out(self, pipeline: str, outcome: outcomes_pb2.Outcome) -> None:
        joiner = self._joiners.get(pipeline)
        if joiner is not None:
            joiner.turned_out(outcome.event_id, translate.truth(outcome), self._clock.monotonic())
            key = (pipeline, outcome.with_event)
            self._labelled[key] = self._labelled.get(key, 0) + 1

    def opined(self, pipeline: str, opinion: Opinion) -> None:
        joiner = self._joiners.get(pipeline)
        if joiner is not None:
            self._opinions.setdefault(pipeline, Opinions(joiner)).opined(
                opinion.event_id, opinion.author, opinion.rejected, opinion.version)

    def progress(self, progress: training_pb2.TrainingProgress) -> None:
        ended = translate.run_ended(progress)
        if ended is not None:
            self.put(ended)

    def answered(self, result: recovery_pb2.RecoveryResult) -> None:
        outcome = recovery_pb2.RecoveryOutcome.Name(result.outcome).removeprefix("RECOVERY_OUTCOME_").lower()
        self.put(Answered(result.command_id, outcome, result.evidence, tuple(result.found_ended)))

    def approval(self, command: recovery_pb2.RecoveryCommand) -> None:
        """A person's word; raises Invalid for one that does not say which of the incident's steps it is about."""
        rung = command.arguments.get("rung", "")
        if not rung.isdecimal():
            raise Invalid("it does not say which step is approved", field="arguments.rung", place=command.command_id)
        self.put(Approval(command.target.partition(":")[2], command.action == recovery_pb2.RECOVERY_ACTION_APPROVE,
                          int(rung), command.issuer))

    def put(self, one: AnyInput) -> None:
        if len(self._inputs) >= MAX_INPUTS:
            self.dropped += 1
            return
        self._inputs.append(one)

    def take(self) -> list[AnyInput]:
        """What came since the last call, in order; labelled predictions, opinions, answers and labels last."""
        taken, self._inputs = self._inputs, []
        for joiner in self._joiners.values():
            taken += joiner.take()
        for opinions in self._opinions.values():
            taken += opinions.take()
        for (pipeline, version), answers in self._answers.items():
            taken.append(Predicted(pipeline, version, tuple(sorted(answers.names.items())), tuple(answers.numbers),
                                   tuple(sorted(answers.sure.items()))))
        self._answers = {}
        taken += [Labelled(pipeline, count, early) for (pipeline, early), count in self._labelled.items()]
        self._labelled = {}
        return taken
