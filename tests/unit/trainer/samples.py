"""Real data sets as the trainer gets them: a plan and labelled rows."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from sklearn import datasets

from lepton.contracts.features import EVENT_ID
from lepton.contracts.modelling.blocks import Parameters
from lepton.contracts.pipeline_blocks import FieldType, Gate, MissingPolicy, Outliers
from services.trainer.core.dataset import LABEL
from services.trainer.core.emitting.building import Graph
from services.trainer.core.plan import Plan, Snapshot
from services.trainer.core.preparing.field import PlannedField
from services.trainer.core.preparing.preparation import Preparation
from services.trainer.core.preparing.rows import ARROW_TYPES

MEAN = MissingPolicy.model_validate("mean")
MODE = MissingPolicy.model_validate("mode")
Kind = TypeVar("Kind")


def part(prepared: Preparation, kind: type[Kind]) -> Kind:
    """The first part of that kind."""
    return next(one for one in prepared.parts if isinstance(one, kind))


def plan(fields: Mapping[str, FieldType], *, task: str = "classification", label_type: str = "bool",
         family: str = "logistic_regression", **changes: Any) -> Plan:
    """A plan over fields name -> type; `changes` replace its attributes."""
    planned = tuple(PlannedField(name=name, type=kind, missing=MEAN if kind in ("float", "int") else MODE)
                    for name, kind in fields.items())
    whole: dict[str, Any] = {
        "run_id": "run-1", "command_id": "command-1", "model": "m", "data_pipeline": "m", "generation": 1,
        "spec_version": 1, "spec_digest": "0" * 64, "input_schema_digest": "1" * 64, "task": task, "label": "label",
        "label_type": label_type, "fields": planned, "outliers": Outliers(), "family": family,
        "parameters": Parameters(), "gate": Gate(metric="accuracy" if task == "classification" else "r2"),
        "rows": 0, "snapshot": Snapshot(ranges=()), "promote": True, "reason": "command"}
    return Plan(**{**whole, **changes})


def rows(columns: Mapping[str, Any], labels: Any, fields: Mapping[str, FieldType]) -> pa.Table:
    count = len(labels)
    return pa.table({EVENT_ID: [f"event-{number:05d}" for number in range(count)],
                     **{name: pa.array(columns[name], ARROW_TYPES[kind], from_pandas=True)
                        for name, kind in fields.items()},
                     LABEL: pa.array(labels)})


def breast_cancer(**changes: Any) -> tuple[Plan, pa.Table]:
    """569 rows, 30 numbers, yes or no."""
    data = datasets.load_breast_cancer()
    return _numeric(data, data.target.astype(bool), label_type="bool", **changes)


def wine(**changes: Any) -> tuple[Plan, pa.Table]:
    """178 rows, 13 numbers, three classes by name."""
    data = datasets.load_wine()
    names = np.array(["barolo", "grignolino", "barbera"])
    return _numeric(data, names[data.target], **{"label_type": "category", **changes})


def diabetes(**changes: Any) -> tuple[Plan, pa.Table]:
    """442 rows, 10 numbers, a number to predict."""
    data = datasets.load_diabetes()
    return _numeric(data, data.target.astype(float), task="regression", label_type="float",
                    **{"family": "linear_regression", **changes})


def mixed(count: int = 400, **changes: Any) -> tuple[Plan, pa.Table]:
    """Every field type, with gaps in each; the label follows the country and the amount."""
    chance = np.random.default_rng(5)
    amount = chance.normal(50, 20, count)
    country = chance.choice(["us", "de", "fr", "rare-1", "rare-2"], count, p=[0.4, 0.3, 0.28, 0.01, 0.01])
    label = ["high" if value > 50 or place == "de" else "low" for value, place in zip(amount, country, strict=True)]
    columns = {"amount": amount, "visits": chance.integers(0, 9, count).astype(object),
               "member": chance.choice([True, False], count).astype(object), "country": country.astype(object),
               "note": chance.choice(["hello", "bye"], count).astype(object)}
    for place, name in enumerate(columns):
        columns[name] = np.array([None if number % 11 == place else value for number, value
                                  in enumerate(columns[name])], dtype=object)
    fields: dict[str, FieldType] = {"amount": "float", "visits": "int", "member": "bool", "country": "category",
                                    "note": "text"}
    return plan(fields, **{"label_type": "category", **changes}), rows(columns, label, fields)


def _numeric(data: Any, labels: Any, **changes: Any) -> tuple[Plan, pa.Table]:
    fields: dict[str, FieldType] = {f"f{place}": "float" for place in range(data.data.shape[1])}
    columns = {f"f{place}": data.data[:, place] for place in range(data.data.shape[1])}
    return plan(fields, **changes), rows(columns, labels, fields)


class Layers:
    """Weights by hand as the exporter takes a network: linear layers with ReLU between them."""

    def __init__(self, layers: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        self._layers = layers

    def emit(self, graph: Graph, prepared: str) -> str:
        value = prepared
        for place, (weight, bias) in enumerate(self._layers):
            value = graph.linear(value, weight, bias, f"layer_{place}")
            if place < len(self._layers) - 1:
                value = graph.add("Relu", [value], f"layer_{place}:relu")
        return value
