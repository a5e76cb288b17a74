"""A small world for the engine: processes that beat, ticks that pass, and what was decided."""

from dataclasses import dataclass, field

from services.watchdog.core.engine import Engine
from services.watchdog.core.inputs import (
    Announced,
    AnyInput,
    Beat,
    Decision,
    Incident,
    Judged,
    Leads,
    ModelSeen,
    Rules,
    RunEnded,
    Thresholds,
    Tick,
)
from services.watchdog.core.journal import MAX_TICKS, Journal
from services.watchdog.core.orders.command import Command
from services.watchdog.core.summaries.counts import RowsSeen, SourceRows
from services.watchdog.core.thresholds.limits import QualityRule

TICK_S = 0.25
WALL_S = 1_800_000_000.0
SERVICES = {"gateway": "gateway", "ingest": "ingest", "trainer": "trainer", "predictor-0": "predictor",
            "actuator": "actuator", "watchdog": "watchdog"}


@dataclass
class World:
    """`beating`: instances that send a heartbeat every half second, by the boot they are in."""

    thresholds: Thresholds = field(default_factory=lambda: Thresholds(own="watchdog"))
    now: float = 1000.0
    wall_ahead_s: float = 0.0
    """By how much the wall clock was set forward."""
    beating: dict[str, str] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    stopped: dict[str, dict[str, str]] = field(default_factory=dict)
    drained: set[str] = field(default_factory=set)
    decisions: list[Decision] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)
    made: list[list[Decision]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.engine = Engine(self.thresholds)
        self.journal = Journal(self.thresholds)
        self._ticks = 0

    def tick(self, *inputs: AnyInput, gap_s: float = TICK_S) -> list[Decision]:
        self.now += gap_s
        self._ticks += 1
        beats: list[AnyInput] = []
        if self._ticks % 2 == 0:
            beats = [self.beat(name) for name in self.beating]
        tick = Tick(self.now, WALL_S + self.now + self.wall_ahead_s, gap_s)
        given = [*inputs, *beats]
        decided = self.engine.step(tick, given)
        self.bodies += [body for kind, body in self.journal.note(tick, given, decided) if kind == "signal"]
        if decided:
            self.made.append(decided)
        self.decisions += decided
        return decided

    def written(self) -> list[str]:
        """All journal entries with inputs, the pending ones too."""
        for _ in range(MAX_TICKS):
            self.tick()
        return self.bodies

    def run(self, seconds: float) -> list[Decision]:
        """Let time pass; the decisions made meanwhile."""
        return [decision for _ in range(round(seconds / TICK_S)) for decision in self.tick()]

    def beat(self, name: str) -> Beat:
        return Beat(name, SERVICES.get(name, name), self.beating[name], self.states.get(name, "ready"),
                    lag_s=0.0 if name == self.thresholds.own else None, stopped=self.stopped.get(name, {}),
                    drained=name in self.drained)

    def healthy(self) -> "World":
        """All services beat, and we lead."""
        for name, service in SERVICES.items():
            self.beating[name] = f"{name}-1"
            self.tick(Announced(name, service, "ready"))
        self.tick(Leads(1))
        self.run(2)
        assert self.decisions == []
        return self

    def commands(self) -> list[Command]:
        return [decision.command for decision in self.decisions if decision.command is not None]

    def orders(self) -> list[tuple[str, str]]:
        return [(command.action, command.target) for command in self.commands()]

    def reject(self, place: int, run: str) -> None:
        """The run that the command at `place` asked for ends: the gate keeps its model out, and a person is told."""
        told = f"recovery-{self.commands()[place].command_id}"
        self.tick(RunEnded("phishing", run, "rejected", "accuracy 0.5 is below 0.7", told))
        self.run(1)
        assert self.last().state == "escalated"

    def last(self) -> Incident:
        return self.decisions[-1].incident

    def states_seen(self) -> list[str]:
        """States of all incidents in the order reached, repeats left out."""
        seen = [decision.incident.state for decision in self.decisions]
        return [state for place, state in enumerate(seen) if place == 0 or seen[place - 1] != state]


RULES = Rules("phishing", quality=QualityRule("accuracy", 100, 60, 0.15))


def model(champion: int, previous: int = 0, accuracy: float = 0.9, revision: int | None = None) -> ModelSeen:
    return ModelSeen("phishing", revision or champion, champion, previous, {"accuracy": accuracy}, 200)


def labels(version: int, right: int, wrong: int) -> list[Judged]:
    return [*(Judged("phishing", version, "true", "true") for _ in range(right)),
            *(Judged("phishing", version, "false", "true") for _ in range(wrong))]


def rows(**bad_of_100: int) -> RowsSeen:
    """A summary with 100 rows of each named source, so many of them rejected."""
    return RowsSeen("phishing", tuple(SourceRows(name, 100 - bad, bad, 0, 0) for name, bad in bad_of_100.items()))
