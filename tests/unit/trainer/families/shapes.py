"""Images, series and texts as a run gets them: a plan over fields of any size, and labelled rows."""

from typing import Any

import numpy as np
import pyarrow as pa
from sklearn import datasets

from lepton.contracts.features import EVENT_ID
from lepton.contracts.modelling.blocks import Parameters
from services.trainer.core.dataset import LABEL
from services.trainer.core.plan import Plan
from services.trainer.core.preparing.field import PlannedField
from services.trainer.core.preparing.rows import ARROW_TYPES
from tests.unit.trainer import samples

PIXELS = PlannedField(name="pixels", type="vector", missing=samples.MODE, tail=(64,), image=(8, 8))
STEPS = PlannedField(name="steps", type="sequence", missing=samples.MODE, tail=(12,))
NOTE = PlannedField(name="note", type="text", missing=samples.MODE)
SIZE = PlannedField(name="size", type="float", missing=samples.MEAN)

WARM = ("Turn the heating up", "it is freezing in here", "please make it warmer", "I am cold")
DARK = ("switch off the lights", "Make it dark, please", "no light in the kitchen", "lights out!")


def plan(family: str, *fields: PlannedField, label_type: str = "bool", **parameters: Any) -> Plan:
    found = samples.plan({}, family=family, label_type=label_type, parameters=Parameters(**parameters))
    return found.model_copy(update={"fields": fields})


def rows(labels: Any, columns: dict[PlannedField, Any]) -> pa.Table:
    return pa.table({EVENT_ID: [f"event-{number:05d}" for number in range(len(labels))],
                     **{field.name: pa.array(values, ARROW_TYPES[field.type]) for field, values in columns.items()},
                     LABEL: pa.array(labels)})


def digits(count: int, family: str = "cnn", **parameters: Any) -> tuple[Plan, pa.Table]:
    """Handwritten digits (UCI, bundled with scikit-learn): 8 x 8 pixels of 0 to 16."""
    data = datasets.load_digits()
    image = {"image": (8, 8)} if family == "cnn" else {}
    return (plan(family, PIXELS, label_type="int", **image, **parameters),
            rows(data.target[:count], {PIXELS: data.data[:count].tolist()}))


def walks(family: str, count: int = 240, **parameters: Any) -> tuple[Plan, pa.Table]:
    """Random walks of 3 to 12 steps that drift up or down, a few of them absent."""
    chance = np.random.default_rng(4)
    up = chance.random(count) < 0.5
    found = [None if chance.random() < 0.03 else
             np.cumsum(chance.normal(0.8 if rises else -0.8, 1.0, chance.integers(3, 13))).tolist() for rises in up]
    return plan(family, STEPS, SIZE, **parameters), rows(up, {STEPS: found, SIZE: chance.normal(size=count)})


def notes(family: str, count: int = 240, **parameters: Any) -> tuple[Plan, pa.Table]:
    """Requests about heating and about lights, each with a number nobody has seen, a few of them absent."""
    chance = np.random.default_rng(5)
    warm = chance.random(count) < 0.5
    found = [None if chance.random() < 0.03 else f"{chance.choice(WARM if one else DARK)} {number}"
             for number, one in enumerate(warm)]
    return plan(family, NOTE, **parameters), rows(warm, {NOTE: found})
