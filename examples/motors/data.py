"""Recordings of motors by a stated generator: what a sound bearing sounds like, and what a damaged one adds.

A defect at one point of a bearing's race strikes each time a ball passes it, and every strike sets off a ringing that
dies away (McFadden and Smith, "Model for the vibration produced by a single point defect in a rolling element
bearing", Journal of Sound and Vibration 96, 1984). How loud a motor is says little: it follows its load.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

RECORDINGS, LEARNT_FROM = 1200, 800
"""The rest no model has seen."""
SHORTEST, LONGEST = 56, 80
"""Samples of a recording: a motor that is switched off ends it."""
_SEED = 1984


@dataclass(frozen=True, slots=True)
class Recording:
    """Acceleration sample by sample, the load, and whether the bearing failed within the month."""

    number: int
    vibration: tuple[float, ...]
    load: float
    failed: bool

    @property
    def answer(self) -> str:
        return "true" if self.failed else "false"

    def event(self, run: str) -> dict[str, Any]:
        return {"event_id": self.event_id(run), "occurred_at": datetime.now(UTC).isoformat(),
                "vibration": list(self.vibration), "load": self.load}

    def label(self, run: str) -> dict[str, Any]:
        return {"event_id": self.event_id(run), "label": self.failed}

    def event_id(self, run: str) -> str:
        return f"{run}-{self.number:04d}"


def recordings() -> list[Recording]:
    """All of them, the same every time; a third comes from bearings that fail."""
    chance = np.random.default_rng(_SEED)
    found = []
    for number in range(RECORDINGS):
        failed = bool(chance.random() < 1 / 3)
        load = float(chance.uniform(0.3, 1.0))
        samples = int(chance.integers(SHORTEST, LONGEST + 1))
        vibration = _shaft(chance, samples) + chance.normal(0.0, 0.35, samples)
        if failed:
            vibration += chance.uniform(0.8, 2.5) * _strikes(chance, samples)
        found.append(Recording(number, tuple((load * vibration).round(4).tolist()), round(load, 4), failed))
    return found


def _shaft(chance: np.random.Generator, samples: int) -> npt.NDArray[np.float64]:
    """The shaft's turning and its second harmonic, begun anywhere in a turn."""
    turns = 2 * np.pi * np.arange(samples) / chance.uniform(22, 34)
    first, second = chance.uniform(0, 2 * np.pi, 2)
    return np.asarray(np.sin(turns + first) + 0.4 * np.sin(2 * turns + second))


def _strikes(chance: np.random.Generator, samples: int) -> npt.NDArray[np.float64]:
    """A ringing of three samples a swing, dying away within a few, set off anew at each pass of a ball."""
    after = np.arange(samples)[:, None] - (chance.uniform(-12, 0) + chance.uniform(9, 13) * np.arange(12))[None, :]
    rung = np.exp(-np.clip(after, 0, 60) / 2.5) * np.sin(2 * np.pi * after / 3.0)
    return np.asarray(np.where(after >= 0, rung, 0.0).sum(axis=1))
