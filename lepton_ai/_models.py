"""What training gives back: a version, where it is served, and how to read either from a gateway's answer."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from lepton.errors import Missing

Predictions = TypeVar("Predictions")
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Model:
    """One immutable version. `metrics` were measured on rows it did not learn from."""

    name: str
    version: int
    family: str
    metrics: Mapping[str, float]
    run_id: str = ""
    label: str = ""
    parent_version: int = 0
    parent_model: str = ""
    """Model `parent_version` is a version of; empty: this one."""

    def __str__(self) -> str:
        shown = ", ".join(f"{name} {value:.4g}" for name, value in sorted(self.metrics.items()))
        return f"model {self.name} version {self.version} ({self.family}; {shown or 'no metrics'})"


@dataclass(frozen=True, slots=True)
class Deployment(Generic[Predictions]):
    """A version that answers requests. `predict` is a method of the client that deployed it."""

    model: str
    version: int
    urls: Mapping[str, str]
    asked: Callable[[str, Sequence[Row]], Predictions] = field(repr=False, compare=False)

    def predict(self, rows: Sequence[Row]) -> Predictions:
        """Answers in the order of `rows`, each a mapping of field names (or of the columns they were) to values."""
        return self.asked(self.model, rows)

    def __str__(self) -> str:
        places = "".join(f"\n  {name}: {url}" for name, url in self.urls.items())
        return f"deployment of {self.model} version {self.version}{places}"


SyncDeployment = Deployment[list[dict[str, Any]]]
AsyncDeployment = Deployment[Awaitable[list[dict[str, Any]]]]


@dataclass(frozen=True, slots=True)
class Run:
    """Where a training run is. `state` is one of queued, running, succeeded, rejected, failed, cancelled.

    `failure_name` is one word that stays the same whatever `failure` says; `stage` is what goes on at the moment.
    `explanation` says how family and parameters were found, where the run looked for them.
    """

    run_id: str
    state: str
    epoch: int
    epochs: int
    version: int
    metrics: Mapping[str, float]
    failure: str
    failure_class: str
    remedy: str
    failure_name: str = ""
    model: str = ""
    kind: str = ""
    stage: str = ""
    priority: int = 0
    rows: int = 0
    cancel_requested: bool = False
    explanation: str = ""

    @property
    def ended(self) -> bool:
        return self.state not in ("queued", "running")


@dataclass(frozen=True, slots=True)
class Point:
    """What a run told at the end of an epoch, or in the course of a search (epoch 0)."""

    epoch: int
    at: datetime
    stage: str
    figures: Mapping[str, float]


def point_from(told: Mapping[str, Any]) -> Point:
    at = Timestamp()
    at.FromJsonString(str(told["at"]))
    return Point(int(told.get("epoch") or 0), at.ToDatetime(UTC), str(told.get("stage") or ""),
                 _numbers(told.get("figures")))


def run_from(told: Mapping[str, Any]) -> Run:
    failure = told.get("failure") or {}
    return Run(
        run_id=str(told["run_id"]), state=plain(told.get("state"), "RUN_STATE_"), epoch=int(told.get("epoch") or 0),
        epochs=int(told.get("epochs") or 0), version=int(told.get("version") or 0),
        metrics=_numbers(told.get("metrics")),
        failure=str(failure.get("message") or ""), remedy=str(failure.get("remedy") or ""),
        failure_class=plain(failure.get("failure_class") or failure.get("class"), "FAILURE_CLASS_"),
        failure_name=str(failure.get("name") or ""), model=str(told.get("model") or ""),
        kind=plain(told.get("kind"), "TRAINING_KIND_"), stage=str(told.get("stage") or ""),
        priority=int(told.get("priority") or 0), rows=int(told.get("rows") or 0),
        cancel_requested=bool(told.get("cancel_requested")), explanation=str(told.get("explanation") or ""),
    )


def model_from(state: Mapping[str, Any], version: int, label: str = "") -> Model:
    """A version out of a model's state. Raises Missing when the registry no longer keeps it."""
    for told in state.get("versions", []):
        if int(told["version"]) == version:
            manifest = told.get("manifest") or told
            lineage = manifest.get("lineage") or {}
            return Model(name=str(state["model"]), version=version, family=str(manifest.get("family") or ""),
                         metrics=_numbers(manifest.get("metrics")), run_id=str(lineage.get("run_id") or ""),
                         label=label, parent_version=int(lineage.get("parent_version") or 0),
                         parent_model=str(lineage.get("parent_model") or ""))
    raise Missing(f"version {version} of {state.get('model')} is not kept", field="version")


def statistics_of(state: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Field statistics the champion froze; empty while there is no champion."""
    champion = int(state.get("champion") or 0)
    for told in state.get("versions", []):
        if champion and int(told["version"]) == champion:
            manifest = told.get("manifest") or told
            return list(manifest.get("statistics") or [])
    return []


def plain(name: object, prefix: str) -> str:
    """An enumeration's value as a lower-case word, with or without its prefix on the wire."""
    return str(name or "").upper().removeprefix(prefix).lower()


def _numbers(told: Mapping[str, Any] | None) -> dict[str, float]:
    return {name: float(value) for name, value in (told or {}).items()}
