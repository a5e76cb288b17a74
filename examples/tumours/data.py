"""Scikit-learn's breast tumours in one stated order, as events with their label, and which of them are learnt from.

    python -m examples.tumours.data > tumours.jsonl      the 400 to learn from, to be uploaded
"""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from sklearn import datasets

LEARNT_FROM = 400
"""Tumours to learn from; the other 169 no model has seen."""
START = datetime(2026, 1, 1, tzinfo=UTC)
# The data set is not in any order of time; this is the order of the example.
_ORDER = 11


def tumours() -> list[dict[str, Any]]:
    """All 569: thirty measures each, and whether the tumour was malignant."""
    data = datasets.load_breast_cancer()
    names = [name.replace(" ", "_") for name in data.feature_names]
    order = np.random.default_rng(_ORDER).permutation(len(data.target))
    return [{"event_id": f"tumour-{number:03d}", "occurred_at": (START + timedelta(minutes=number)).isoformat(),
             **dict(zip(names, data.data[place].tolist(), strict=True)),
             # The data set's 0 is malignant.
             "malignant": bool(data.target[place] == 0)} for number, place in enumerate(order)]


def main() -> None:
    for row in tumours()[:LEARNT_FROM]:
        print(json.dumps(row))


if __name__ == "__main__":
    main()
