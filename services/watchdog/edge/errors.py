"""What each outcome becomes at the watchdog's doors: of a record that is read, of a message that is sent."""

from collections.abc import Mapping
from enum import Enum

from lepton.errors import Busy, Invalid, LeptonError, Missing, Refused, Unavailable


class Fate(Enum):
    DEAD_LETTER = "dead_letter"
    """Set aside with its reason; the next record goes on."""
    WAIT = "wait"
    """Tried again in place until it succeeds."""


FATES: Mapping[type[LeptonError], Fate] = {
    Invalid: Fate.DEAD_LETTER,
    Missing: Fate.DEAD_LETTER,
    Refused: Fate.DEAD_LETTER,
    Busy: Fate.WAIT,
    Unavailable: Fate.WAIT,
}


def fate(error: LeptonError) -> Fate:
    return next((FATES[kind] for kind in type(error).__mro__ if kind in FATES), Fate.DEAD_LETTER)
