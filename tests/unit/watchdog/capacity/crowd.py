"""A world in which predictors have more or less to do, and are started and stopped as the watchdog commands."""

from dataclasses import dataclass
from typing import Any

from services.watchdog.core.inputs import Announced, Answered, Beat, Figures, Requests, Rules, Thresholds
from services.watchdog.core.orders.command import Command
from services.watchdog.core.thresholds.limits import Limits
from tests.unit.watchdog.world import World

LIMITS = Limits(idle_s=60)
SHOP = Rules("shop", replicas=(1, 3), partitions=4)


@dataclass
class Crowd(World):
    """`answers`: requests a second that one predictor can do; `obeys`: whether commands have an effect."""

    answers: int = 100
    obeys: bool = True

    def beat(self, name: str) -> Beat:
        return Beat(name, name.partition("-")[0], self.beating[name], self.states.get(name, "ready"),
                    lag_s=0.0 if name == self.thresholds.own else None)

    @property
    def predictors(self) -> list[str]:
        return sorted(name for name in self.beating if name.startswith("predictor"))

    def ask(self, seconds: int, a_second: int, model: str = "shop") -> None:
        """So many requests a second; what the predictors cannot do is refused."""
        for _ in range(seconds):
            done = min(a_second, self.answers * len(self.predictors))
            self.second(Requests(model, done, a_second - done, (), a_second - done))

    def wait(self, seconds: int, a_second: float, first: float = 0.0, topic: str = "lepton-events-shop",
             instance: str = "ingest", name: str = "lepton_consumer_lag") -> None:
        """So many records more wait each second, said every two seconds."""
        for second in range(0, seconds, 2):
            self.second(Figures(instance, instance.partition("-")[0], "", ((name, topic, first + second * a_second),)))
            self.second()

    def second(self, *inputs: Any) -> None:
        """Inputs, and a second for them; afterwards what was commanded is done."""
        before = len(self.commands())
        self.tick(*inputs)
        self.run(0.75)
        if self.obeys:
            for command in self.commands()[before:]:
                self.obey(command)

    def obey(self, command: Command) -> None:
        if "replicas" not in command.arguments:
            return
        service, wanted = command.target.partition(":")[2], int(command.arguments["replicas"])
        names = [f"{service}-{number}" for number in range(wanted)] if service == "predictor" else [
            service, *(f"{service}-{number}" for number in range(1, wanted))]
        for gone in [name for name in self.beating if name.startswith(service) and name not in names]:
            del self.beating[gone]
            self.tick(Announced(gone, gone=True))
        for name in names:
            self.beating.setdefault(name, f"{name}-1")
        self.tick(Answered(command.command_id, "done"))

    def scaled(self) -> list[tuple[str, str, str]]:
        return [(one.action, one.target, one.arguments["replicas"]) for one in self.commands()
                if "replicas" in one.arguments]

    def ended(self, symptom: str) -> str:
        """The state that the latest incident of that symptom reached."""
        return [one.incident.state for one in self.decisions if one.incident.symptom == symptom][-1]


def crowd(*rules: Rules, **changes: Any) -> Crowd:
    """All services beat; one to three predictors, one or two ingests, unless `replicas` says otherwise."""
    usual: dict[str, Any] = {"own": "watchdog", "limits": LIMITS, "replicas": {"predictor": (1, 3), "ingest": (1, 2)}}
    world = Crowd(Thresholds(**(usual | changes)))
    world.healthy()
    for one in rules or (SHOP,):
        world.tick(one)
    return world
