"""Which processes may be acted upon, and what a restart or a scale would mean for them; decides, does nothing."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lepton.errors import Invalid, Refused

_UNIT = re.compile(r"^([a-z][a-z0-9-]*)=(\d+)\.\.(\d+)$")


@dataclass(frozen=True, slots=True)
class Unit:
    """A service that may be acted upon, and how many instances of it may run."""

    service: str
    least: int
    most: int

    def __contains__(self, instance: str) -> bool:
        """`trainer` and `predictor-3` are instances of `trainer` and `predictor`."""
        prefix, _, number = instance.rpartition("-")
        return instance == self.service or (prefix == self.service and number.isdigit())


@dataclass(frozen=True, slots=True)
class Change:
    """Instances to start and to stop, in that order."""

    start: tuple[str, ...]
    stop: tuple[str, ...]


def parse(text: str) -> list[Unit]:
    """`gateway=1..1,predictor=1..4`. Raises Invalid, naming the entry, when it is not of that form."""
    units = []
    for entry in text.split(","):
        match = _UNIT.match(entry.strip())
        if match is None or not int(match[2]) <= int(match[3]) or int(match[3]) < 1:
            raise Invalid("a unit is written name=least..most", field="LEPTON_ACTUATOR_UNITS", place=entry.strip(),
                          remedy="for instance predictor=1..4")
        units.append(Unit(match[1], int(match[2]), int(match[3])))
    return units


def restarts(units: Sequence[Unit], target: str, running: Mapping[str, bool]) -> tuple[str, ...]:
    """The instances a restart of `target` is about. Raises Refused when it names none that may be acted upon.

    Args:
        target: `instance:<name>` or `service:<name>`.
        running: every instance that the process manager knows, and whether it runs.
    """
    kind, _, name = target.partition(":")
    if kind == "instance" and name in running and any(name in unit for unit in units):
        return (name,)
    if kind == "service":
        unit = _unit(units, name)
        return tuple(sorted(instance for instance, runs in running.items() if runs and instance in unit))
    raise Refused("no such unit may be restarted here", field="target", place=target, remedy=_known(units))


def scale(units: Sequence[Unit], target: str, replicas: int, running: Mapping[str, bool]) -> Change:
    """What brings `target` to `replicas` running instances: the lowest numbers run, the highest stop first.

    Raises Refused outside least..most, or when fewer instances are defined than asked for.
    """
    kind, _, name = target.partition(":")
    if kind != "service":
        raise Refused("only a service can be scaled", field="target", place=target, remedy="service:<name>")
    unit = _unit(units, name)
    if not unit.least <= replicas <= unit.most:
        raise Refused(f"{replicas} instances of {name} are outside {unit.least}..{unit.most}", field="replicas",
                      place=target)
    instances = sorted((instance for instance in running if instance in unit), key=_number)
    if len(instances) < replicas:
        raise Refused(f"only {len(instances)} instances of {name} are defined", field="replicas", place=target)
    up = [instance for instance in instances if running[instance]]
    idle = [instance for instance in instances if not running[instance]]
    missing = replicas - len(up)
    return Change(tuple(idle[:max(0, missing)]), tuple(reversed(up[replicas:])))


def _unit(units: Sequence[Unit], service: str) -> Unit:
    for unit in units:
        if unit.service == service:
            return unit
    raise Refused("no such unit may be acted upon here", field="target", place=f"service:{service}",
                  remedy=_known(units))


def _known(units: Sequence[Unit]) -> str:
    return f"the units are {', '.join(unit.service for unit in units)}"


def _number(instance: str) -> tuple[int, str]:
    number = instance.rpartition("-")[2]
    return (int(number) if number.isdigit() else 0, instance)
