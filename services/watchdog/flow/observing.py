"""What reaches the watchdog between two ticks: messages in, inputs of the core out; predictions joined on the way."""

from lepton.clock import Clock
from lepton.contracts.pb import (
    models_pb2,
    outcomes_pb2,
    predictions_pb2,
    quality_pb2,
    recovery_pb2,
    telemetry_pb2,
    training_pb2,
)
from lepton.contracts.pipeline import Pipeline
from services.watchdog.core.inputs import Answered, AnyInput, Rules
from services.watchdog.core.quality.join import Joiner, Prediction
from services.watchdog.flow import translate

# Far above what ticks a quarter of a second apart see; a bound for the time in which nobody takes.
MAX_INPUTS = 20_000


class Observing:
    """Collects; never waits. `own` is the name of this instance."""

    def __init__(self, own: str, clock: Clock) -> None:
        self._own = own
        self._clock = clock
        self._inputs: list[AnyInput] = []
        self._joiners: dict[str, Joiner] = {}
        self.dropped = 0

    def heartbeat(self, message: telemetry_pb2.Telemetry) -> None:
        lag_s = None
        if message.instance == self._own:
            lag_s = self._clock.now().timestamp() - message.at.ToNanoseconds() / 1e9
        self.put(translate.beat(message, lag_s))

    def instance(self, name: str, message: telemetry_pb2.Instance | None) -> None:
        self.put(translate.announced(name, message))

    def pipeline(self, name: str, pipeline: Pipeline | None) -> None:
        """A pipeline as it is now; None: it was deleted."""
        if pipeline is None:
            self._joiners.pop(name, None)
            self.put(Rules(name, deleted=True))
            return
        self._joiners.setdefault(name, Joiner(name))
        self.put(translate.rules(pipeline))

    def model(self, state: models_pb2.ModelState) -> None:
        joiner = self._joiners.setdefault(state.model, Joiner(state.model))
        joiner.classes = {one.version: tuple(one.manifest.classes) for one in state.versions}
        self.put(translate.model(state))

    def summary(self, summary: quality_pb2.QualitySummary) -> None:
        self.put(translate.rows(summary, self._clock.now().timestamp()))

    def predicted(self, pipeline: str, served: predictions_pb2.PredictionServed) -> None:
        joiner = self._joiners.get(pipeline)
        if joiner is not None:
            answer = served.label if served.WhichOneof("answer") == "label" else served.number
            joiner.predicted(served.event_id, Prediction(served.version, answer, tuple(served.probabilities)))

    def turned_out(self, pipeline: str, outcome: outcomes_pb2.Outcome) -> None:
        joiner = self._joiners.get(pipeline)
        if joiner is not None:
            joiner.turned_out(outcome.event_id, translate.truth(outcome))

    def progress(self, progress: training_pb2.TrainingProgress) -> None:
        ended = translate.run_ended(progress)
        if ended is not None:
            self.put(ended)

    def answered(self, result: recovery_pb2.RecoveryResult) -> None:
        outcome = recovery_pb2.RecoveryOutcome.Name(result.outcome).removeprefix("RECOVERY_OUTCOME_").lower()
        self.put(Answered(result.command_id, outcome, result.evidence))

    def put(self, one: AnyInput) -> None:
        if len(self._inputs) >= MAX_INPUTS:
            self.dropped += 1
            return
        self._inputs.append(one)

    def take(self) -> list[AnyInput]:
        """What came since the last call, in order; labelled predictions last."""
        taken, self._inputs = self._inputs, []
        for joiner in self._joiners.values():
            taken += joiner.take()
        return taken
