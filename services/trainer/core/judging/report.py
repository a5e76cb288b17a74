"""All that a card tells of a version, as plain data: what it is, its figures, and where it comes from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.trainer.core.dataset import Target
from services.trainer.core.plan import Plan


@dataclass(frozen=True, slots=True)
class About:
    """What the run around a candidate says of itself; `metrics` are those it is published with."""

    metrics: dict[str, float]
    champion_metrics: dict[str, float] | None
    warnings: tuple[str, ...]
    losses: Mapping[str, Sequence[float]]
    train_rows: int
    held_out_rows: int
    epochs: int


def report(plan: Plan, target: Target, about: About, figures: Mapping[str, Any]) -> dict[str, Any]:
    """Keys are those that `telling` knows; `figures` are a judgement's."""
    return {
        "model": plan.model, "run_id": plan.run_id, "pipeline": plan.data_pipeline, "task": target.task,
        "family": plan.family if plan.stream is None else "stream", "label": plan.label,
        "classes": list(target.named_classes),
        "fields": [field.name for field in plan.fields], "metric": plan.gate.metric, "metrics": dict(about.metrics),
        "champion_metrics": dict(about.champion_metrics or {}),
        "champion_version": plan.champion.version if plan.champion else 0, "warnings": list(about.warnings),
        "train_rows": about.train_rows, "held_out_rows": about.held_out_rows, "epochs": about.epochs,
        "losses": {name: list(values) for name, values in about.losses.items()},
        "parameters": (plan.stream or plan.parameters).model_dump(mode="json", exclude_defaults=True),
        "seed": plan.parameters.seed, "spec_version": plan.spec_version, "snapshot": plan.snapshot.digest(),
        "ranges": [one.model_dump(mode="json", exclude={"digests"}) for one in plan.snapshot.ranges],
        "parent_version": plan.parent.version if plan.parent else 0, **figures}
