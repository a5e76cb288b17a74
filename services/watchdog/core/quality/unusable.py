"""Which versions are none to answer with: a predictor cannot load them, or what they answer is no number."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from services.watchdog.core.inputs import ModelSeen, Unusable
from services.watchdog.core.load.bursts import Burst
from services.watchdog.core.symptom import LOST_FILE, UNUSABLE, Symptom

ROWS: Final = 10
"""Of a version's answers so many that are no numbers, within WINDOW_S, are no accident of one row."""
WINDOW_S: Final = 60.0
HOLD_S: Final = 3.0
"""A predictor that cannot load a version says so twice a second."""


@dataclass(slots=True)
class _Version:
    """What was said of one version. `refused`: by whom it could not be loaded and why, and when that was said last.

    `lost`: the SHA-256 of its file, where that is why.
    """

    number: int
    rows: Burst = field(default_factory=lambda: Burst(ROWS, WINDOW_S))
    refused: str = ""
    refused_at: float = 0.0
    lost: str = ""


@dataclass(slots=True)
class UnusableVersions:
    """By model, the newest version that was complained of."""

    _known: dict[str, _Version] = field(default_factory=dict)

    def see(self, one: Unusable, now: float) -> None:
        known = self._known.get(one.model)
        if known is None or known.number != one.version:
            known = self._known[one.model] = _Version(one.version)
        if one.refused:
            known.refused, known.refused_at = f"{one.instance} cannot load it: {one.refused}", now
            known.lost = one.lost
        known.rows.add(one.rows, now)

    def lost(self, model: str) -> str:
        """The SHA-256 of the file that the version complained of last is lost without; "" where it is not."""
        known = self._known.get(model)
        return known.lost if known is not None else ""

    def symptoms(self, models: Mapping[str, ModelSeen], now: float) -> Iterator[Symptom]:
        """Of champions: no other version has to be left."""
        for model, known in sorted(self._known.items()):
            seen = models.get(model)
            if seen is None or seen.champion != known.number:
                continue
            told = ""
            if known.refused and now - known.refused_at <= HOLD_S:
                told = known.refused
            elif known.rows.look(now):
                told = f"{known.rows.count} of its answers in {WINDOW_S:.0f} s are no numbers"
            if told:
                kind = LOST_FILE if known.lost and told == known.refused else UNUSABLE
                yield Symptom(kind, model, f"version {known.number}: {told}", model, version=known.number)
