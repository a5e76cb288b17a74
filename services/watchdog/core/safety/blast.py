"""How many processes may be touched at once: never the last one of a service that still works."""

from collections.abc import Iterable

from services.watchdog.core.inputs import READY, Incident
from services.watchdog.core.safety import renewing
from services.watchdog.core.signals import Lives
from services.watchdog.core.state import State


def spares(state: State, incident: Incident, opened: Iterable[Incident], now: float) -> bool:
    """Whether the service goes on working while the process of `incident`, which still works, is begun anew.

    True where another process of its service is ready and heard, and where the service never had another: then
    nothing but a restart helps, and it is done in order. False while another one of several is down, or another of the
    `opened` incidents has one of them begun anew, whose turn is first: who said goodbye for that comes back.
    """
    lives = state.lives
    life = lives.by_name.get(incident.target.removeprefix("instance:"))
    if life is None:
        return True
    if any(one.key != incident.key and _of(one, life.service, lives) and renewing.under_way(one, state, now)
           for one in opened):
        return False
    others = [other for other in lives.of(life.service) if other is not life]
    return all(other.heard and other.state == READY and not lives.silent(other, now) for other in others)


def _of(incident: Incident, service: str, lives: Lives) -> bool:
    """Whether it is about a process of the service. Of one that withdrew before this watchdog began only the name is
    left, which begins with the service as long as nobody chose another."""
    kind, _, instance = incident.target.partition(":")
    return kind == "instance" and (lives.service_of(instance) or instance.partition("-")[0]) == service
