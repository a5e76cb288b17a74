"""Scikit-learn's diabetes patients in one stated order, as events: measures, and whether the disease went on fast.

    python -m examples.risk.data > risk.jsonl      the 300 to learn from, to be uploaded
"""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from sklearn.datasets import load_diabetes

LEARNT_FROM = 300
"""Patients to learn from; the other 142 no model has seen."""
FAST = 180.0
"""How far the disease has gone after a year, in the data's own measure, from which on it went fast."""
MEASURES = ("age", "sex", "bmi", "blood_pressure", "cholesterol", "ldl", "hdl", "cholesterol_hdl", "triglycerides_log",
            "glucose")
START = datetime(2026, 1, 1, tzinfo=UTC)
# The data set is not in any order of time; this is the order of the example.
_ORDER = 5


def patients() -> list[dict[str, Any]]:
    """All 442; `sex` is kept as two letters, since the data does not say which of its two numbers is which."""
    found = load_diabetes(scaled=False)
    order = np.random.default_rng(_ORDER).permutation(len(found.target))
    rows = []
    for number, place in enumerate(order):
        measures = dict(zip(MEASURES, found.data[place].tolist(), strict=True))
        rows.append({"event_id": f"patient-{number:03d}", "seen_at": (START + timedelta(minutes=number)).isoformat(),
                     **measures, "sex": "a" if measures["sex"] == 1 else "b",
                     "worse": bool(found.target[place] >= FAST)})
    return rows


def main() -> None:
    for row in patients()[:LEARNT_FROM]:
        print(json.dumps(row))


if __name__ == "__main__":
    main()
