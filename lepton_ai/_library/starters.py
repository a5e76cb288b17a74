"""Models to begin with: which data sets, bundled with scikit-learn, they learn from, and the Pipeline of each.

A starter's rows have the same event ids wherever it is made, so the same rows are held out and the same weights learnt.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa

from lepton.errors import Invalid, Missing
from lepton_ai._data import Rows, field_names
from lepton_ai._infer import Derived
from lepton_ai._models import Model, model_from
from lepton_ai._transport import Transport

# Its runs are asked for, never started by a number of rows.
_NEVER_ROWS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Starter:
    """`loads` is the function of `sklearn.datasets`; `classes` are names of the label's numbers, where it has them."""

    about: str
    loads: str
    label: Mapping[str, Any]
    model: Mapping[str, Any]
    gate: Mapping[str, Any]
    classes: tuple[str, ...] = ()
    image: str = ""
    """The one field of all pixels, where the rows are images."""
    parameters: Mapping[str, Any] = field(default_factory=dict)


STARTERS: Final[Mapping[str, Starter]] = {
    "breast-cancer": Starter(
        "569 tumours, 30 measures of cell nuclei: benign or not", "load_breast_cancer",
        {"field": "benign", "type": "bool"}, {"family": "mlp"}, {"metric": "accuracy", "at_least": 0.93},
        parameters={"hidden": [32], "epochs": 30, "learning_rate": 0.01, "seed": 7}),
    "wine": Starter(
        "178 wines, 13 chemical measures: which of three cultivars", "load_wine",
        {"field": "cultivar", "type": "category"}, {"family": "mlp"}, {"metric": "accuracy", "at_least": 0.9},
        classes=("class_0", "class_1", "class_2"),
        parameters={"hidden": [16], "epochs": 40, "learning_rate": 0.01, "seed": 7}),
    "diabetes": Starter(
        "442 patients, 10 measures: how far the disease is a year later", "load_diabetes",
        {"field": "progression", "type": "float"}, {"family": "linear_regression"}, {"metric": "r2", "at_least": 0.3},
        parameters={"epochs": 60, "learning_rate": 0.01, "seed": 7}),
    "digits": Starter(
        "1,797 handwritten digits of 8 x 8 pixels, 0 to 16: which digit", "load_digits",
        {"field": "digit", "type": "int", "task": "classification"}, {"family": "cnn"},
        {"metric": "accuracy", "at_least": 0.95}, image="pixels",
        parameters={"image": [8, 8], "channels": [16, 32], "kernel": 3, "epochs": 12, "learning_rate": 0.01,
                    "seed": 7}),
}


def described(name: str) -> Derived:
    """The starter's rows under its Pipeline. Raises Invalid for a name that is none, Missing without scikit-learn."""
    starter = STARTERS.get(name)
    if starter is None:
        raise Invalid(f"there is no starter {name!r}", field="name", remedy=f"use one of {', '.join(STARTERS)}")
    fields, table = _read(starter)
    label = str(starter.label["field"])
    spec = {
        "apiVersion": "lepton/v1", "kind": "Pipeline",
        "metadata": {"name": f"starter-{name}", "dataset": f"starter-{name}"},
        "events": {"id": "event_id", "time": "occurred_at", "partitions": 1, "fields": fields,
                   "label": {**starter.label, "arrives": "with_event"}},
        "model": {**starter.model, "parameters": dict(starter.parameters),
                  "train": {"first_rows": _NEVER_ROWS, "every_rows": 0, "window_rows": _NEVER_ROWS}},
        "gate": {**starter.gate, "beat_champion_by": -1.0},
    }
    digest = hashlib.sha256(f"lepton starter {name}".encode()).hexdigest()
    columns = {column: column for column in table.column_names}
    return Derived(f"starter-{name}", spec, label, "the starter's", "event_id", Rows(table, digest, columns))


async def known(transport: Transport, model: str) -> Model | None:
    """The champion of a starter that was made before; None where there is none."""
    try:
        state = await transport.get(f"/v1/models/{model}")
    except Missing:
        return None
    return model_from(state, int(state["champion"])) if int(state["champion"]) else None


def _read(starter: Starter) -> tuple[dict[str, dict[str, Any]], pa.Table]:
    try:
        from sklearn import datasets  # only who makes a starter needs it
    except ImportError as error:
        raise Missing("scikit-learn is not installed, whose data sets starters learn from",
                      remedy="pip install 'lepton-ai[sklearn]'") from error
    data = getattr(datasets, starter.loads)()
    if starter.image:
        fields = {starter.image: {"type": "vector", "dims": data.data.shape[1], "required": True}}
        columns = {starter.image: pa.array(data.data.tolist(), pa.list_(pa.float32()))}
    else:
        names = list(field_names(data.feature_names))
        fields = {name: {"type": "float"} for name in names}
        columns = {name: pa.array(data.data[:, place]) for place, name in enumerate(names)}
    return fields, pa.table({**columns, str(starter.label["field"]): _labels(starter, data.target)})


def _labels(starter: Starter, target: Any) -> pa.Array:
    if starter.classes:
        return pa.array([starter.classes[one] for one in target.tolist()])
    kinds = {"bool": bool, "int": int}
    return pa.array([kinds.get(str(starter.label["type"]), float)(one) for one in target.tolist()])
