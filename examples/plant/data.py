"""Trace of the UCR archive: readings of instruments in a nuclear power plant, each with the failure it shows.

    python -m examples.plant.data > readings.jsonl      the readings to learn from, to be uploaded
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import numpy as np

from examples.bundled import bundled

Part = Literal["train", "test"]
SAMPLES = 275
_BEGUN = datetime(2026, 1, 5, tzinfo=UTC)
"""The data have no times: a reading a minute, in their order."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One instrument's samples, scaled to mean 0 and deviation 1, and which of the four failures they show."""

    number: int
    part: Part
    samples: tuple[float, ...]
    failure: str

    def row(self) -> dict[str, Any]:
        return {"event_id": f"{self.part}-{self.number:03d}", "samples": list(self.samples), "failure": self.failure,
                "occurred_at": (_BEGUN + timedelta(minutes=self.number)).isoformat()}


def readings(part: Part) -> list[Reading]:
    """The hundred that the archive gives to learn from, or the hundred it keeps to be judged by. Raises Missing."""
    with np.load(bundled("tslearn/.cached_datasets/Trace.npz"), allow_pickle=False) as held:
        series, kinds = held[f"X_{part}"][:, :, 0], held[f"y_{part}"]
    return [Reading(number, part, tuple(samples.tolist()), f"failure-{kind}")
            for number, (samples, kind) in enumerate(zip(series, kinds, strict=True))]


def main() -> None:
    for one in readings("train"):
        print(json.dumps(one.row()))


if __name__ == "__main__":
    main()
