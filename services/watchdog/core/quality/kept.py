"""What there is to go on with when state is lost: what the database holds of what was announced, and its backups."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from lepton.contracts import names
from services.watchdog.core.inputs import Figures
from services.watchdog.core.symptom import LOST_STATE, Symptom

DATABASE: Final = "database"
STANDS_S: Final = 12.0
"""Looks are five seconds apart once something is gone, and what is stored may be announced, or the other way round, a
little earlier."""
STALE_S: Final = 30.0
"""Who says nothing for so long says it no more."""


@dataclass(slots=True)
class _Lost:
    """Of one collection; `since`: from when on something of it has been gone."""

    gone: int = 0
    since: float = 0.0
    seen_at: float = 0.0


@dataclass(slots=True)
class Kept:
    """Folded from what actuators say of backups and watchdogs of the database."""

    backup: str = ""
    """The newest; "" where none is known."""
    _age_h: float = 0.0
    _lost: dict[str, _Lost] = field(default_factory=dict)

    def figures(self, one: Figures, now: float) -> None:
        for name, about, value in one.readings:
            if name == names.BACKUP_AGE_HOURS:
                self.backup, self._age_h = about, value
            elif name == names.LOST_DOCUMENTS:
                lost = self._lost.setdefault(about, _Lost())
                if not lost.gone:
                    lost.since = now
                lost.gone, lost.seen_at = round(value), now

    def symptoms(self, now: float) -> Iterator[Symptom]:
        """The database answers, and something that was announced is not in it."""
        gone = {name: lost.gone for name, lost in sorted(self._lost.items())
                if lost.gone and now - lost.since >= STANDS_S and now - lost.seen_at <= STALE_S}
        if gone:
            told = " and ".join(f"{count} of the {name}" for name, count in gone.items())
            yield Symptom(LOST_STATE, DATABASE, f"{told} are not in the database; {self._proposal()}")

    def _proposal(self) -> str:
        if not self.backup:
            return "no backup is known to bring them back from"
        return (f"the newest backup is {self.backup}, {self._age_h:.1f} h old: `lepton backup restore` brings it back, "
                f"see docs/backup.md")
