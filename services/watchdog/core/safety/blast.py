"""How many processes may be touched at once: never the last one of a service that still works."""

from collections.abc import Iterable

from services.watchdog.core.incident import COMMANDED
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
    return not _first(state, incident, opened, now) and not _down(state, incident, now)


def waits(state: State, incident: Incident, opened: Iterable[Incident], now: float) -> str:
    """What a person is to be told of one that waits for others of its service for longer than one takes that is begun
    anew; empty while its turn may come by itself."""
    if now < max(incident.since, incident.commanded_at) + state.thresholds.renew_verify_s:
        return ""
    first = _first(state, incident, opened, now)
    if any(one.state == COMMANDED for one in first):
        return ""
    names = [*(one.target.removeprefix("instance:") for one in first), *_down(state, incident, now)]
    return f"it is not begun anew while {' and '.join(dict.fromkeys(names))} cannot stand in for it" if names else ""


def _first(state: State, incident: Incident, opened: Iterable[Incident], now: float) -> list[Incident]:
    """Those that have another process of its service begun anew."""
    life = state.lives.by_name.get(incident.target.removeprefix("instance:"))
    return [one for one in opened if life is not None and one.key != incident.key and _of(
        one, life.service, state.lives) and renewing.under_way(one, state, now)]


def _down(state: State, incident: Incident, now: float) -> list[str]:
    """Other processes of its service that are not ready."""
    lives = state.lives
    life = lives.by_name.get(incident.target.removeprefix("instance:"))
    others = lives.of(life.service) if life is not None else []
    return [other.instance for other in others if other is not life
            and not (other.heard and other.state == READY and not lives.silent(other, now))]


def _of(incident: Incident, service: str, lives: Lives) -> bool:
    """Whether it is about a process of the service. Of one that withdrew before this watchdog began only the name is
    left, which begins with the service as long as nobody chose another."""
    kind, _, instance = incident.target.partition(":")
    return kind == "instance" and (lives.service_of(instance) or instance.partition("-")[0]) == service
