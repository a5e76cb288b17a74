"""Which pipelines take nothing in, as the processes of ingest say themselves; a person may pause and resume them too.
"""

from dataclasses import dataclass, field

from lepton.contracts import names
from services.watchdog.core.inputs import Figures

# It is said every other second, and all figures again every ten.
STALE_S = 30.0


@dataclass(slots=True)
class Pauses:
    """What was said last, by pipeline and instance, and when a pause was last seen."""

    _said: dict[str, dict[str, tuple[bool, float]]] = field(default_factory=dict)
    _held_at: dict[str, float] = field(default_factory=dict)

    def figures(self, one: Figures, now: float) -> None:
        for name, pipeline, value in one.readings:
            if name == names.PAUSED:
                self._said.setdefault(pipeline, {})[one.instance] = (value > 0, now)
                if value > 0:
                    self._held_at[pipeline] = now

    def gone(self, instance: str) -> None:
        for told in self._said.values():
            told.pop(instance, None)

    def held(self, pipeline: str, now: float) -> bool:
        """Whether a process still says so."""
        return any(paused and now - at <= STALE_S for paused, at in self._said.get(pipeline, {}).values())

    def resumed(self, pipeline: str, since: float, now: float) -> bool:
        """Whether a process said so after `since`, and none says that it is paused."""
        return not self.held(pipeline, now) and any(
            not paused and at > since for paused, at in self._said.get(pipeline, {}).values())

    def lately(self, pipeline: str, now: float, within_s: float) -> bool:
        """Whether it was paused within that time: how many rows come then says nothing."""
        return pipeline in self._held_at and now - self._held_at[pipeline] <= within_s
