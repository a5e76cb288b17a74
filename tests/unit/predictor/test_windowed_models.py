"""A model over windows: trained on the columns ingest logged, answered alike by stream and by request."""

from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from examples.chicks.data import weighings
from lepton.contracts import features, pipeline
from services.ingest.core.windows.step import Windows
from services.trainer.core.dataset import LABEL
from services.trainer.core.learning import Given, learn
from services.trainer.core.plan import planned_fields
from tests.unit.predictor.learnt import Learnt, predict
from tests.unit.predictor.world import World, world
from tests.unit.trainer import samples

SPEC = pipeline.parse((Path(__file__).parents[3] / "examples" / "chicks" / "pipeline.yaml").read_text())


def learnt_of(rows: pa.Table) -> Learnt:
    """What a trainer makes of accepted rows and what became of them."""
    assert SPEC.model is not None
    assert SPEC.gate is not None
    plan = samples.plan({}, task="regression", label_type="float", family="linear_regression", gate=SPEC.gate,
                        parameters=SPEC.model.parameters, input_schema_digest=SPEC.input_schema_digest())
    plan = plan.model_copy(update={"fields": planned_fields(SPEC)})
    return Learnt(plan, learn(plan, Given(rows), []))


def accepted() -> pa.RecordBatch:
    """All weighings as ingest writes them."""
    rows = []
    for offset, one in enumerate(weighings()):
        event = one.event("run")
        rows.append({
            features.EVENT_ID: event["event_id"], features.ENTITY: event["chick"], features.SOURCE: "test",
            features.OCCURRED_AT: datetime.fromisoformat(event["occurred_at"]), features.SOURCE_OFFSET: offset,
            features.OUTLIERS: [], **{name: event[name] for name in SPEC.fields}})
    batch, _ = Windows(SPEC).plan(pa.RecordBatch.from_pylist(rows, schema=features.features_schema(SPEC)))
    return batch


@pytest.fixture(scope="module")
def rows() -> pa.RecordBatch:
    return accepted()


@pytest.fixture(scope="module")
def learnt(rows: pa.RecordBatch) -> Learnt:
    labels = [one.next_g for one in weighings()]
    known = [place for place, label in enumerate(labels) if label is not None]
    table = pa.table(rows).take(known)
    return learnt_of(table.append_column(LABEL, pa.array([labels[place] for place in known])))


def test_window_columns_are_inputs_of_the_file_with_statistics_of_their_own(learnt: Learnt) -> None:
    told = learnt.manifest(learnt.build(), "chicks", 1)
    assert [one.name for one in told.inputs] == [*SPEC.inputs, "_missing"]
    assert {one.name for one in told.inputs} >= set(SPEC.window_columns)
    missing = {one.field: one.missing for one in told.statistics}
    # A chick's first weighing has no deviation yet.
    assert missing["recent_std"] >= 30
    assert missing["recent_min"] == 0


def test_a_model_learns_from_the_windows(learnt: Learnt) -> None:
    found = learnt.learned.metrics
    assert found["r2"] > 0.9
    assert found["mae"] < found["baseline_mae"] / 4


async def test_the_same_event_gets_the_same_answer_by_stream_and_by_request(
        tmp_path: Path, rows: pa.RecordBatch, learnt: Learnt) -> None:
    async with world(tmp_path) as here:
        await here.registry.create("chicks", partitions=2)
        await here.registry.announce_spec(SPEC)
        await here.registry.publish("chicks", learnt)
        await here.metric('lepton_predictor_model_version{model="chicks",provider="CPUExecutionProvider"} 1.0')
        await here.registry.raw_features(SPEC, features.encode_batch(rows))
        streamed = {one.event_id: one.number for one in await here.predictions("chicks", rows.num_rows)}
        given = rows.to_pylist()
        asked = await numbers(here, [{name: row[name] for name in SPEC.inputs} for row in given])
        assert asked == [streamed[row[features.EVENT_ID]] for row in given]
        # Who asks without windows gets an answer too: they count as missing, and that changes it.
        bare = await numbers(here, [{name: row[name] for name in SPEC.fields} for row in given])
        nulled = await numbers(here, [{name: row[name] if name in SPEC.fields else None for name in SPEC.inputs}
                                      for row in given])
        assert bare == nulled
        assert sum(abs(one - other) > 1e-3 for one, other in zip(bare, asked, strict=True)) > len(given) / 2


async def numbers(here: World, rows: list[dict[str, Any]]) -> list[float]:
    return [one.number for one in (await predict(here, "chicks", rows)).rows]
