"""What other monitoring systems say is wrong: each alert until its end, those about one thing taken together."""

from collections.abc import Mapping
from typing import Final

from services.watchdog.core.inputs import Alerted, Rules, Tick
from services.watchdog.core.symptom import OUTSIDE, Symptom

MAX_ALERTS: Final = 1_000
UNHEARD_S: Final = 300.0
"""After a start: who says its alerts again has done so by then (Prometheus does each minute)."""
MILD: Final = frozenset({"info", "none", "warning", "low", "minor"})
"""Severities for which nobody is fetched: those who are told of everything are told."""


class Outside:
    """Alerts by fingerprint; ended ones are forgotten."""

    def __init__(self) -> None:
        self._alerts: dict[str, Alerted] = {}
        self._seen: set[str] = set()
        self._began: float | None = None
        self._settled = False

    def see(self, one: Alerted) -> None:
        """A thousand stand at most: of more, the new ones wait until others end."""
        if one.fingerprint in self._alerts or len(self._alerts) < MAX_ALERTS:
            self._alerts[one.fingerprint] = one
            self._seen.add(_cause(one))

    def look(self, tick: Tick) -> None:
        self._began = tick.monotonic_s if self._began is None else self._began
        self._settled = tick.monotonic_s - self._began >= UNHEARD_S
        over = [name for name, one in self._alerts.items() if one.ends_s <= tick.wall_s]
        for name in over:
            del self._alerts[name]
        if self._settled:
            self._seen.clear()

    def known(self, cause: str) -> bool:
        """Whether its silence says that it is over: it was heard of, or would have been since the start."""
        return self._settled or cause in self._seen

    def urgent(self, cause: str) -> bool:
        """Whether a person is to be fetched for it."""
        return any(_cause(one) == cause and one.severity.lower() not in MILD for one in self._alerts.values())

    def symptoms(self, rules: Mapping[str, Rules]) -> list[Symptom]:
        """One for each thing; with its pipeline, where a label names one that we know."""
        found: dict[str, Symptom] = {}
        for one in self._alerts.values():
            found.setdefault(one.about, Symptom(OUTSIDE, one.about, one.summary,
                                                one.pipeline if one.pipeline in rules else ""))
        return list(found.values())


def _cause(one: Alerted) -> str:
    return f"outside:{one.about}"
