"""Which predictor a request goes to: the least loaded one that serves the model and has not failed lately.

One that gave no answer has failed for all its models; one that answered that it cannot, for the model asked for.
One that is drained is asked only where no other can be: then nothing is gained by sparing it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from lepton.contracts.pb import telemetry_pb2
from lepton.errors import Missing, Unavailable

# Instances announce themselves every two seconds; three announcements missed in a row is silence.
SILENT_S = 6.5
FAILURES_TO_EJECT = 3
FIRST_EJECTION_S = 1.0
LONGEST_EJECTION_S = 30.0
# A replica that nobody asks any more is not said to be out of reach for ever.
LATELY_S = 60.0


@dataclass(slots=True)
class Circuit:
    """Failures in a row; so many of them are an ejection, each time for twice as long."""

    failures: int = 0
    ejections: int = 0
    ejected_until: float = float("-inf")

    def failed(self, now: float) -> None:
        self.failures += 1
        if self.failures >= FAILURES_TO_EJECT:
            self.ejected_until = now + min(LONGEST_EJECTION_S, FIRST_EJECTION_S * 2**self.ejections)
            self.ejections += 1
            self.failures = 0

    def answered(self) -> None:
        self.failures = self.ejections = 0


@dataclass(slots=True)
class Replica:
    """One predictor as it announced itself, and how it did for us."""

    instance: str
    boot_id: str
    address: str
    ready: bool
    models: dict[str, int]
    load: float
    heard_at: float
    in_flight: int = 0
    served: int = 0
    circuit: Circuit = field(default_factory=Circuit)
    by_model: dict[str, Circuit] = field(default_factory=dict)
    """Of models that it answered it could not serve, while it names the same version of them."""
    missed_since: float | None = None
    missed_until: float = 0.0
    drained: bool = False
    """Not ready by a command, and able to answer."""

    def is_ejected(self, model: str | None, now: float) -> bool:
        own = None if model is None else self.by_model.get(model)
        return self.circuit.ejected_until > now or (own is not None and own.ejected_until > now)

    def judge(self, model: str | None, unable: bool, now: float) -> None:
        """Count an answer to a request of `model`. Names that it does not serve are none to remember."""
        if model is None or model not in self.models:
            return
        if unable:
            self.by_model.setdefault(model, Circuit()).failed(now)
        elif model in self.by_model:
            self.by_model[model].answered()


class Routing:
    """Times are monotonic seconds."""

    def __init__(self) -> None:
        self._replicas: dict[str, Replica] = {}

    def heard(self, instance: telemetry_pb2.Instance, now: float) -> None:
        """Take in an announcement; a new start of a process is judged afresh."""
        old = self._replicas.get(instance.instance)
        new = Replica(
            instance.instance, instance.boot_id, instance.address,
            instance.state == telemetry_pb2.INSTANCE_STATE_READY,
            {model.model: model.version for model in instance.models}, instance.load, now, drained=instance.drained,
        )
        if old is not None and old.boot_id == new.boot_id:
            new.in_flight, new.served = old.in_flight, old.served
            new.circuit = old.circuit
            new.by_model = {model: circuit for model, circuit in old.by_model.items()
                            if model in new.models and new.models[model] == old.models.get(model)}
            new.missed_since, new.missed_until = old.missed_since, old.missed_until
        self._replicas[instance.instance] = new

    def gone(self, instance: str) -> None:
        self._replicas.pop(instance, None)

    def pick(self, model: str | None, now: float, tried: Iterable[str] = ()) -> Replica:
        """The replica to ask for `model` (None: for anything), leaving out those `tried`.

        Raises Missing when predictors are there but none serves the model, Unavailable when none can be asked.
        """
        left_out = set(tried)
        present = self._present(now)
        serving = [one for one in present if model is None or model in one.models]
        left = [one for one in serving if one.instance not in left_out]
        open_ones = [one for one in left if one.ready] or left
        if not serving and any(one.ready for one in present):
            raise Missing(f"no predictor serves {model}", remedy=f"train a model, or wait until one has loaded it: "
                                                                     f"`lepton models wait {model}`")
        if not open_ones:
            raise Unavailable("no predictor can be asked now", field="predictor", remedy="try again in a moment")
        # When all have failed lately, asking one of them is still better than asking none.
        well = [one for one in open_ones if not one.is_ejected(model, now)] or open_ones
        return min(well, key=lambda one: (one.load + one.in_flight, one.served))

    def everyone(self, model: str | None, now: float) -> list[Replica]:
        """Every replica that can be asked for `model` (None: for anything). Raises as `pick`."""
        first = self.pick(model, now)
        return [first, *(one for one in self._present(now)
                         if one is not first and (model is None or model in one.models))]

    def _present(self, now: float) -> list[Replica]:
        """Those that were heard lately and would answer."""
        return [one for one in self._replicas.values() if now - one.heard_at < SILENT_S and (one.ready or one.drained)]

    def unreached(self, now: float) -> dict[str, float]:
        """Seconds for which calls to each have had no answer; 0 of one that gave one, or was not asked lately."""
        return {name: one.missed_until - one.missed_since
                if one.missed_since is not None and now - one.missed_until < LATELY_S else 0.0
                for name, one in self._replicas.items()}

    def began(self, replica: Replica) -> None:
        replica.in_flight += 1
        replica.served += 1

    def ended(self, replica: Replica, *, failed: bool, now: float, began: float | None = None,
              model: str | None = None, unable: bool = False) -> None:
        """Count the answer; a row of failures ejects the replica, each time for twice as long.

        `failed`: there was no answer; `began`: when the call did, where a failure is to count from then on. `unable`:
        the answer was that it cannot, which counts against the replica for requests of `model` alone.
        """
        current = self._replicas.get(replica.instance, replica)
        for one in {id(replica): replica, id(current): current}.values():
            one.in_flight = max(0, one.in_flight - 1)
        if current.boot_id != replica.boot_id:
            return
        if not failed:
            current.circuit.answered()
            current.missed_since = None
            current.judge(model, unable, now)
            return
        if current.missed_since is None:
            current.missed_since = now if began is None else began
        current.missed_until = now
        current.circuit.failed(now)
