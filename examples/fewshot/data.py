"""The two clinics' tumours as files of events with their labels, to be uploaded.

    python -m examples.fewshot.data large > large.jsonl      all 285 tumours of the large clinic
    python -m examples.fewshot.data small > small.jsonl      eight of each kind of the small one's
"""

import argparse
import json
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn import datasets

from lepton.contracts import pipeline
from lepton.contracts.pipeline import Pipeline

SHOTS = (8, 20, 40)
"""Tumours of each kind that the small clinic knows of."""
LARGE = 285
"""Tumours of the large clinic; the others are the small one's."""
START = datetime(2026, 1, 1, tzinfo=UTC)
# The data set is not in any order of time; this is the order of the example.
_ORDER = 3
_SEED = 1

Places = npt.NDArray[np.int64]


def spec(name: str) -> Pipeline:
    return pipeline.parse((Path(__file__).parent / f"{name}.yaml").read_text())


@lru_cache(maxsize=1)
def tumours() -> tuple[dict[str, Any], Any, Places]:
    """Measures by field name, whether each was malignant, and the example's order."""
    data = datasets.load_breast_cancer()
    names = [name.replace(" ", "_") for name in data.feature_names]
    order = np.random.default_rng(_ORDER).permutation(len(data.target))
    return {name: data.data[:, place] for place, name in enumerate(names)}, data.target == 0, order


def split(shots: int, seed: int) -> tuple[Places, Places]:
    """So many of each kind, and all others."""
    _, malignant, order = tumours()
    mixed = np.random.default_rng(seed).permutation(order[LARGE:])
    shown = np.concatenate([mixed[malignant[mixed] == kind][:shots] for kind in (False, True)])
    return shown, mixed[~np.isin(mixed, shown)]


def clinic(which: Literal["large", "small"]) -> list[dict[str, Any]]:
    """Each clinic's rows hold the measures that its Pipeline declares, and whether the tumour was malignant."""
    measures, malignant, order = tumours()
    places = order[:LARGE] if which == "large" else split(SHOTS[0], _SEED)[0]
    of = spec("teacher" if which == "large" else "pupil")
    return [{"event_id": f"{which}-{place:03d}", "occurred_at": (START + timedelta(minutes=number)).isoformat(),
             **{name: float(measures[name][place]) for name in of.inputs}, "malignant": bool(malignant[place])}
            for number, place in enumerate(places.tolist())]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clinic", choices=("large", "small"))
    for row in clinic(parser.parse_args().clinic):
        print(json.dumps(row))


if __name__ == "__main__":
    main()
