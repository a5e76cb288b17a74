"""Scikit-learn's bundled digits in one stated order, which images are learnt from, and how one travels."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from sklearn import datasets

LEARNT_FROM = 1397
"""Images to learn from; the other 400 no model has seen."""
# The images lie writer by writer; a mail room gets them mixed.
_ORDER = 1


@dataclass(frozen=True, slots=True)
class Image:
    """Pixels row by row, 0 to 16, and the digit they show."""

    number: int
    pixels: tuple[float, ...]
    digit: int

    @property
    def answer(self) -> str:
        return str(self.digit)

    def event(self, run: str) -> dict[str, Any]:
        return {"event_id": self.event_id(run), "occurred_at": datetime.now(UTC).isoformat(),
                "pixels": list(self.pixels)}

    def label(self, run: str) -> dict[str, Any]:
        return {"event_id": self.event_id(run), "label": self.digit}

    def event_id(self, run: str) -> str:
        return f"{run}-{self.number:04d}"


def images() -> list[Image]:
    """All 1,797, in the same mixed order every time."""
    data = datasets.load_digits()
    order = np.random.default_rng(_ORDER).permutation(len(data.target))
    return [Image(number, tuple(data.data[place].tolist()), int(data.target[place]))
            for number, place in enumerate(order)]
