"""A shop whose labels come as its test has them written."""

import random
from collections.abc import Callable

from services.watchdog.core.inputs import Judged, Rules
from tests.unit.watchdog.world import RULES, TICK_S, World, model

NAMES = ("false", "true")


class Shop:
    """A version answers right nine times of ten; how its labels are written is the test's."""

    def __init__(self, previous: int = 0, metrics_of: float = 0.9, seed: int = 3, share: float | None = None,
                 rules: Rules = RULES) -> None:
        """`share`: of `true`; as many as of the others unless it is given."""
        self.world, self.random, self.share = World().healthy(), random.Random(seed), share
        self.world.tick(rules, model(2, previous=previous, accuracy=metrics_of))

    def feed(self, version: int, count: int, told: Callable[[str], str] = lambda truth: truth,
             right: float = 0.9, names: tuple[str, ...] = NAMES, at_once: int = 5, gap_s: float = TICK_S) -> None:
        for _ in range(count // at_once):
            self.world.tick(*(self.row(version, told, right, names) for _ in range(at_once)), gap_s=gap_s)

    def row(self, version: int, told: Callable[[str], str], right: float, names: tuple[str, ...]) -> Judged:
        truth = self.random.choice(names) if self.share is None else NAMES[self.random.random() < self.share]
        wrong = self.random.choice([one for one in names if one != truth])
        return Judged("phishing", version, told(truth), truth if self.random.random() < right else wrong)

    def kinds(self) -> list[tuple[str, str]]:
        """Symptom and cause of all incidents, in the order they were opened."""
        return list(dict.fromkeys((one.incident.symptom, one.incident.cause) for one in self.world.decisions))


def inverted(truth: str) -> str:
    return NAMES[truth == NAMES[0]]


LABELS, MODEL = ("bad_labels", "data:phishing/labels"), ("quality_loss", "model:phishing")
