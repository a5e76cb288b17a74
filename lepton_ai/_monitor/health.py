"""How a deployment's health is gathered and shown: as text, live in a terminal, and as a picture in a notebook."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, Final

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.table import Table
from rich.text import Text

from lepton_ai._models import plain
from lepton_ai._monitor.traffic import Traffic

_COLOURS: Final = {"healthy": "green", "degraded": "yellow", "down": "red"}
_HEX: Final = {"healthy": "#2e7d32", "degraded": "#f9a825", "down": "#c62828"}
_LINE_PX, _WIDTH_PX = 20, 760


@dataclass(frozen=True, slots=True)
class Replica:
    """One predictor as it announced itself. `version` is what it answers with; 0: it has not loaded the model."""

    instance: str
    state: str
    silent: bool
    version: int
    load: float
    provider: str

    @property
    def serves(self) -> bool:
        return self.state == "ready" and not self.silent and self.version > 0


@dataclass(frozen=True, slots=True)
class Health:
    """A deployment at one moment. Prints as text, and is a picture where a notebook shows it."""

    model: str
    version: int
    champion: int
    replicas: tuple[Replica, ...]
    metrics: Mapping[str, float] = field(default_factory=dict)
    data: Mapping[str, int] = field(default_factory=dict)
    incidents: tuple[str, ...] = ()
    lag_records: int = 0
    problems: tuple[str, ...] = ()
    traffic: Traffic | None = None

    @property
    def state(self) -> str:
        """`healthy`; `degraded`: it answers, but something is wrong; `down`: nobody answers with a version."""
        if not any(replica.serves for replica in self.replicas):
            return "down"
        wrong = self.incidents or self.problems or self.champion != self.version or not all(
            replica.serves for replica in self.replicas)
        return "degraded" if wrong else "healthy"

    def lines(self) -> list[str]:
        found = [f"{self.model} version {self.version}: {self.state}"]
        if self.champion != self.version:
            found.append(f"champion: version {self.champion}" if self.champion else "champion: none")
        for replica in self.replicas:
            silent = ", silent" if replica.silent else ""
            found.append(f"{replica.instance}: {replica.state}{silent}, version {replica.version}, "
                         f"load {replica.load:g}, {replica.provider or 'provider unknown'}")
        if not self.replicas:
            found.append("no predictor has announced itself")
        if self.metrics:
            measured = (f"{name} {value:.4g}" for name, value in sorted(self.metrics.items()))
            found.append(f"held-out: {', '.join(measured)}")
        if self.data:
            found.append("data, last summaries: " + ", ".join(f"{name} {count}" for name, count in self.data.items()))
        if self.traffic is not None:
            found.append(str(self.traffic))
        found.append(f"rows waiting to be scored: {self.lag_records}")
        found += [f"incident: {line}" for line in self.incidents] or ["no open incident"]
        return found + [f"not known: {line}" for line in self.problems]

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        title, *rest = self.lines()
        table = Table("predictor", "state", "version", "load", "provider", expand=False)
        for replica in self.replicas:
            table.add_row(replica.instance, "silent" if replica.silent else replica.state, str(replica.version),
                          f"{replica.load:g}", replica.provider)
        told = [line for line in rest if not any(line.startswith(f"{one.instance}:") for one in self.replicas)]
        yield Group(Text(title, style=f"bold {_COLOURS[self.state]}"), *([table] if self.replicas else []),
                    *(Text(line) for line in told))

    def _repr_svg_(self) -> str:
        title, *rest = self.lines()
        height = _LINE_PX * (len(rest) + 2)
        lines = "".join(f'<text x="16" y="{_LINE_PX * (2 + at)}" font-size="13">{escape(line)}</text>'
                        for at, line in enumerate(rest, start=1))
        return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH_PX}" height="{height}" '
                f'font-family="sans-serif" role="img" aria-label="{escape(title, quote=True)}">'
                f'<rect width="100%" height="100%" fill="white"/>'
                f'<circle cx="24" cy="25" r="8" fill="{_HEX[self.state]}"/>'
                f'<text x="40" y="30" font-size="15" font-weight="bold">{escape(title)}</text>{lines}</svg>')


def health_from(model: str, version: int, state: Mapping[str, Any], status: Mapping[str, Any],
                summaries: Sequence[Mapping[str, Any]]) -> Health:
    """Health out of a gateway's answers: the model's state, the status page, and the newest quality summaries."""
    replicas = [_replica(one, model) for one in status.get("instances", []) if one.get("service") == "predictor"]
    champion = int(state.get("champion") or 0)
    return Health(
        model=model, version=version, champion=champion, replicas=tuple(replicas),
        metrics=_metrics(state, version), data=_counts(summaries),
        incidents=tuple(f"{one['symptom']} at {one['target']} ({plain(one['state'], 'INCIDENT_STATE_')})"
                        for one in status.get("incidents", []) if _concerns(str(one.get("target", "")), model)),
        lag_records=sum(int(one["records"]) for one in status.get("lags", [])
                        if str(one.get("group", "")).removeprefix("predictor.").split(".g")[0] == model),
        problems=tuple(str(one) for one in status.get("problems", [])),
    )


def _replica(told: Mapping[str, Any], model: str) -> Replica:
    served = told.get("models") or {}
    if not isinstance(served, Mapping):
        served = {one["model"]: one["version"] for one in served}
    return Replica(str(told["instance"]), plain(told.get("state"), "INSTANCE_STATE_"), bool(told.get("silent")),
                   int(served.get(model) or 0), float(told.get("load") or 0), str(told.get("provider") or ""))


def _metrics(state: Mapping[str, Any], version: int) -> dict[str, float]:
    for told in state.get("versions", []):
        if int(told["version"]) == version:
            return {name: float(value) for name, value in ((told.get("manifest") or told).get("metrics") or {}).items()}
    return {}


def _counts(summaries: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    names = ("accepted", "rejected", "duplicates", "quarantined")
    return {name: sum(int(one.get(name) or 0) for one in summaries) for name in names} if summaries else {}


def _concerns(target: str, model: str) -> bool:
    """An incident at this model or pipeline, at any predictor, or at what all stand on."""
    kind, _, name = target.partition(":")
    return name in (model, "predictor") or name.startswith(("predictor-", f"{model}/")) or kind not in (
        "model", "pipeline", "instance", "service", "data")
