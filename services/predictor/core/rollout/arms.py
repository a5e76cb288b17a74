"""What champion and candidate of a rollout did here: rows answered and failed, how long runs took, how often alike."""

import itertools
import math
from dataclasses import dataclass, field

from lepton.contracts.modelling.serving import FASTEST_S, PLACES, SLOWER
from lepton.contracts.pb.models_pb2 import ROLLOUT_STATE_RUNNING, ROLLOUT_STRATEGY_SHADOW, ModelState, Rollout
from lepton.contracts.pb.telemetry_pb2 import ServedArm
from services.predictor.core.rollout.splitting import picked, place

_STEP = math.log(SLOWER)


@dataclass(slots=True)
class Arm:
    """One version's counts; they only grow."""

    answered: int = 0
    failed: int = 0
    runs: list[int] = field(default_factory=lambda: [0] * PLACES)
    compared: int = 0
    agreed: int = 0
    refused: str = ""
    """Why the version cannot be tried here; empty when it can."""

    def ran(self, rows: int, took_s: float) -> None:
        """Rows were answered by one run."""
        self.answered += rows
        self.runs[_place_of(took_s)] += 1

    def missed(self) -> None:
        """One run gave no answer, or none that is one."""
        self.failed += 1


class Trial:
    """One step of one rollout, as this process takes part in it. For the event loop."""

    __slots__ = ("_asked", "_name", "arms", "candidate", "champion", "shadow", "share", "since")

    def __init__(self, model: str, rollout: Rollout) -> None:
        self.candidate = rollout.candidate
        self.champion = rollout.champion
        self.share = rollout.share
        self.since = rollout.since
        self.shadow = rollout.strategy == ROLLOUT_STRATEGY_SHADOW
        self.arms = {rollout.champion: Arm(), rollout.candidate: Arm()}
        self._name = f"{model}:{rollout.candidate}"
        self._asked = itertools.count()

    @property
    def open(self) -> bool:
        """Whether the candidate takes part at all."""
        return not self.arms[self.candidate].refused

    def is_of(self, rollout: Rollout) -> bool:
        """Whether it is the rollout's present step."""
        return (self.since, self.champion, self.candidate) == (rollout.since, rollout.champion, rollout.candidate)

    def picks(self, key: str) -> bool:
        """Whether the candidate answers for the key; without one the next caller is as good as any."""
        if self.shadow or not self.open:
            return False
        return place(self._name, key or f" {next(self._asked)}") < self.share

    def picked(self, keys: list[str]) -> list[bool]:
        """`picks` for every row of a batch."""
        if self.shadow or not self.open:
            return [False] * len(keys)
        return picked(self._name, keys, self.share)

    def told(self) -> list[ServedArm]:
        """What goes to the owner of the registry, champion first."""
        return [ServedArm(version=version, since=self.since, answered=arm.answered, failed=arm.failed,
                          runs=_short(arm.runs), compared=arm.compared, agreed=arm.agreed, refused=arm.refused)
                for version, arm in self.arms.items()]


def tries(state: ModelState) -> bool:
    """Whether a candidate is tried beside the champion."""
    rollout = state.rollout
    return (rollout.state == ROLLOUT_STATE_RUNNING and rollout.champion == state.champion
            and rollout.candidate not in (0, state.champion))


def _place_of(took_s: float) -> int:
    if took_s <= FASTEST_S:
        return 0
    return min(PLACES - 1, math.ceil(math.log(took_s / FASTEST_S) / _STEP))


def _short(runs: list[int]) -> list[int]:
    used = max((place for place, count in enumerate(runs) if count), default=-1)
    return runs[:used + 1]
