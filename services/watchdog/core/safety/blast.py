"""How many processes may be touched at once: never the last one of a service that still works."""

from services.watchdog.core.inputs import READY
from services.watchdog.core.state import State


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
