"""One step of a ladder."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rung:
    """An action, and within which time it must have shown an effect."""

    action: str
    verify_s: float
