"""How many processes may be touched at once: never the last one of a service that still works."""

from typing import Final

from services.watchdog.core.inputs import READY
from services.watchdog.core.state import State

DRAINED: Final = frozenset({"predictor"})
"""Services whose processes get no more requests once they say so: their gateways choose among them."""
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


def spares(state: State, instance: str, now: float) -> bool:
    """Whether the service goes on working while `instance`, which still works, is begun anew.

    True where another process of its service is ready and heard, and where the service never had another: then
    nothing but a restart helps, and it is done in order. False while another one of several is down: its turn first.
    """
    lives = state.lives
    life = lives.by_name.get(instance)
    if life is None:
        return True
    others = [other for other in lives.by_name.values() if other.service == life.service and other is not life
              and not other.leaving]
    return all(other.heard and other.state == READY and not lives.silent(other, now) for other in others)
