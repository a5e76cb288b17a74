"""Whose requests can be handed over before a process that is ill is begun anew, and whose fault is its own."""

from typing import Final

from services.watchdog.core.inputs import READY
from services.watchdog.core.state import State

DRAINED: Final = frozenset({"predictor"})
"""Services whose processes get no more requests once they say so: their gateways choose among them."""
DRAIN_S: Final = 10.0
"""So long the requests of a process that is drained have to end."""
DRAINED_S: Final = 60.0
"""A drained process waits so long for its restart; then it serves again."""
ODD_PART: Final = 0.1
"""Where others of its service fail as often as this part of one's failures, the fault is not that one's own."""


def drainable(state: State, instance: str) -> bool:
    """Whether a process that still works can hand its requests over before it is begun anew."""
    lives = state.lives
    life = lives.by_name.get(instance)
    return life is not None and life.service in DRAINED and any(
        other.state == READY for other in lives.of(life.service) if other is not life)


def odd_one_out(state: State, instance: str) -> bool:
    """Whether it fails while others of its service, which do the same work, hardly do."""
    life, failed = state.lives.by_name.get(instance), state.usage.failed(instance)
    return life is not None and all(state.usage.failed(other.instance) <= failed * ODD_PART
                                    for other in state.lives.of(life.service) if other is not life)
