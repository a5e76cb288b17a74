"""Streams while a candidate is tried: every row once, each entity by its version, and none of a shadow's answers."""

import math
from pathlib import Path

from services.predictor.core.rollout.splitting import place
from tests.harness.onnx_models import Linear
from tests.unit.predictor.rollout.beside import arms, try_beside
from tests.unit.predictor.test_scoring import FIELDS, FORMS, rows, scored
from tests.unit.predictor.world import world

EXTRA = 100.0


def entities(count: int) -> list[dict[str, object]]:
    return [row | {"_entity": f"u-{number % 50}"} for number, row in enumerate(rows(count))]


@FORMS
async def test_each_entity_s_rows_are_answered_by_its_version_in_order(tmp_path: Path, results: str) -> None:
    async with world(tmp_path) as here:
        spec = await scored(here, results=results)
        since = (await try_beside(here, Linear(FIELDS, bias=EXTRA), 0.4)).rollout.since
        await here.registry.features(spec, entities(200), partition=0)
        found = await here.predictions("tiny", 200)
        assert [one.event_id for one in found if one.entity == "u-3"] == [f"e-{number}" for number in range(3, 200, 50)]
        assert len(found) == 200 and {one.version for one in found} == {1, 2}
        for one in found:
            number = int(one.event_id[2:])
            assert one.version == (2 if place("tiny:2", one.entity) < 0.4 else 1)
            assert one.number == number + number % 2 + (EXTRA if one.version == 2 else 0)
        champion, candidate = await arms(here, since, answered=200)
        assert candidate.answered == sum(one.version == 2 for one in found)
        await here.metric(f'lepton_predictor_scored_rows_total{{model="tiny",version="2"}} {float(candidate.answered)}')
        assert champion.answered + candidate.answered == 200


async def test_rows_a_candidate_cannot_answer_are_the_champion_s(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        spec = await scored(here)
        since = (await try_beside(here, Linear(FIELDS, bias=math.nan), 0.4)).rollout.since
        await here.registry.features(spec, entities(200), partition=0)
        found = await here.predictions("tiny", 200)
        assert len(found) == 200 and {one.version for one in found} == {1}
        _, candidate = await arms(here, since, answered=200)
        assert candidate.failed >= 1


async def test_a_shadow_s_answers_are_on_no_topic(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        spec = await scored(here)
        since = (await try_beside(here, Linear(FIELDS, bias=EXTRA), 0.0)).rollout.since
        await here.registry.features(spec, entities(200), partition=0)
        _, candidate = await arms(here, since, compared=200)
        assert candidate.agreed < 200
        found = await here.predictions("tiny", 200)
        assert len(found) == 200 and {one.version for one in found} == {1}
