"""Who is told of what: each address with the severities, classes, symptoms and pipelines it wants to hear of."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Final, Literal

import msgspec

from services.watchdog.core.alerting.alerts import Alert, Severity

LOG: Final = "log"
"""An address that stands for the log, in which everything is anyway."""

Class = Literal["process", "data", "model", "resources", "surge", "serving", "training", "line", "dependency",
                "outside"]


class Route(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Tells `to` of alerts that are of every kind named; what is left out says nothing. `symptom`: that it was opened
    for, or that was noted on it. `pipeline`: with * and ?."""

    to: tuple[str, ...]
    severity: tuple[Severity, ...] = ()
    classes: tuple[Class, ...] = ()
    symptom: tuple[str, ...] = ()
    pipeline: tuple[str, ...] = ()

    def takes(self, alert: Alert) -> bool:
        named: Sequence[tuple[Sequence[str], Sequence[str]]] = (
            (self.severity, (alert.severity,)), (self.classes, (alert.kind,)),
            (self.symptom, (alert.symptom, *alert.also)))
        return all(not wanted or any(value in wanted for value in values) for wanted, values in named) and (
            not self.pipeline or any(fnmatchcase(alert.pipeline, one) for one in self.pipeline))


def addresses(routes: Iterable[Route], alert: Alert, own: Iterable[str]) -> tuple[str, ...]:
    """Who is told of it, each once: those of the routes that take it, and those its pipeline names itself."""
    wanted = [address for route in routes if route.takes(alert) for address in route.to]
    return tuple(dict.fromkeys(one for one in (*wanted, *own) if one != LOG))
