"""What looking at an incident, or at an action for it, came to."""

from dataclasses import dataclass
from enum import Enum


class Finding(Enum):
    """`OPEN`: neither proven nor disproven yet. `WAIT`: the same, and nothing more may be done about it now."""

    WELL = "well"
    WORSE = "worse"
    OPEN = "open"
    WAIT = "wait"


@dataclass(frozen=True, slots=True)
class Verdict:
    finding: Finding
    why: str = ""
