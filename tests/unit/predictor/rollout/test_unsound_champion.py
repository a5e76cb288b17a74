"""A champion that answers with what is no number while a candidate is tried: told of, and the one before answers."""

import math
from pathlib import Path
from typing import Any

import pytest

from lepton.clock import SystemClock
from services.predictor.flow.answered import Logging
from services.predictor.flow.beside import Beside
from services.predictor.flow.entities import Entities
from services.predictor.flow.predictor import Predictor
from tests.harness.onnx_models import Linear
from tests.harness.registry import features_batch, specify
from tests.unit.predictor.held import held

ONE = {"amount": "float"}
EXTRA = 100.0


@pytest.mark.parametrize("share", [0.4, 0.0])
async def test_its_rows_of_a_stream_are_answered_by_the_champion_before(tmp_path: Path, share: float) -> None:
    rows: list[dict[str, Any]] = [{"_event_id": f"e-{number}", "_entity": f"u-{number % 50}", "amount": float(number)}
                                  for number in range(200)]
    async with held(tmp_path) as here:
        for bias in (1.0, math.nan, EXTRA):
            await here.registry.publish("tiny", Linear(ONE, bias=bias))
        await here.library.adopt(await here.registry.announce(here.tried(champion=2, share=share)))
        clock = SystemClock()
        predictor = Predictor(here.library, Beside(here.library, clock), Entities(clock), clock, lambda _: None,
                              Logging(0.0, digested=False))
        found = await predictor.score("tiny", features_batch(specify("tiny", ONE), rows))
        assert found is not None
        picked = list(found.picked) or [False] * 200
        assert any(picked) == bool(share)
        assert [found.version_at(row) for row in range(200)] == [3 if tried else 1 for tried in picked]
        mine = [row["amount"] + 1.0 for row, tried in zip(rows, picked, strict=True) if not tried]
        assert [number for part in found.parts for number in (part.numbers if part.numbers is not None else [])] == mine
        assert here.library.take_unsound() == {("tiny", 2): len(mine)}
        trial = here.library.trial("tiny")
        assert trial is not None and (trial.arms[2].answered, trial.arms[2].failed) == (0, 1)
