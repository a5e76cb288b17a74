"""Families that read step by step learn from the real rows of examples: better than what looks at nothing.

The `gru` has a Pipeline of its own (`test_traffic.py`).
"""

from typing import Any

import pytest

from examples.requests.compare import accuracy, answered, commonest
from examples.requests.data import LEARNT_FROM, requests
from examples.traffic.compare import error, forecast, parted, plain
from lepton.contracts.modelling.families import Family


@pytest.mark.parametrize("family", ["rnn", "lstm", "transformer"])
def test_traffic_is_foretold_better_than_by_the_last_value(family: Family) -> None:
    first, rest = parted()
    said = forecast(first[::2], rest, family=family, units=16, epochs=8, learning_rate=0.02, heads=2)
    assert error(said, rest) < 0.9 * error(plain(rest)["as many as now"], rest)


@pytest.mark.parametrize(("family", "parameters"), [("lstm", {}), ("transformer", {"heads": 2})])
def test_sentences_are_understood_better_than_by_the_commonest_wish(family: Family, parameters: dict[str, Any]) -> None:
    rows = requests()
    first, rest = rows[:LEARNT_FROM], rows[LEARNT_FROM:]
    said = answered(first, rest, family=family, units=16, tokens=12, epochs=8, learning_rate=0.02, **parameters)
    assert accuracy(said, rest) > accuracy(commonest(first, rest), rest) + 0.2
