"""What each outcome becomes at the trainer's doors: of a command's record, and of a recovery command."""

from collections.abc import Mapping
from enum import Enum

from lepton.contracts.pb import recovery_pb2
from lepton.errors import Busy, Invalid, LeptonError, Missing, Refused, Unavailable


class Fate(Enum):
    DEAD_LETTER = "dead_letter"
    """Set aside with its reason; the next record goes on."""
    WAIT = "wait"
    """Tried again in place, in order, until it succeeds."""


FATES: Mapping[type[LeptonError], Fate] = {
    Invalid: Fate.DEAD_LETTER,
    Missing: Fate.DEAD_LETTER,
    Refused: Fate.DEAD_LETTER,
    Busy: Fate.WAIT,
    Unavailable: Fate.WAIT,
}

ANSWERS: Mapping[type[LeptonError], "recovery_pb2.RecoveryOutcome.ValueType"] = {
    Invalid: recovery_pb2.RECOVERY_OUTCOME_REFUSED,
    Missing: recovery_pb2.RECOVERY_OUTCOME_REFUSED,
    Refused: recovery_pb2.RECOVERY_OUTCOME_REFUSED,
    Busy: recovery_pb2.RECOVERY_OUTCOME_FAILED,
    Unavailable: recovery_pb2.RECOVERY_OUTCOME_FAILED,
}

# Worth another try before it is answered: the command still has time.
PASSING = tuple(kind for kind, fate in FATES.items() if fate is Fate.WAIT)


def answer(error: LeptonError) -> "recovery_pb2.RecoveryOutcome.ValueType":
    return next(outcome for kind, outcome in ANSWERS.items() if isinstance(error, kind))
