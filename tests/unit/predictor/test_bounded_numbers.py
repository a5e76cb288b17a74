"""A number's bounds as a predictor serves them: the same by stream and by named rows."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from lepton.contracts import features, pipeline
from services.trainer.core.learning import Given, learn
from tests.unit.predictor.learnt import Learnt, predict
from tests.unit.predictor.world import world
from tests.unit.trainer.judging.test_bounds import prices

SPEC = pipeline.parse("""
apiVersion: lepton/v1
kind: Pipeline
metadata: {name: prices}
events:
  partitions: 1
  fields: {size: {type: float}}
  label: {field: price, type: float}
model: {family: linear_regression}
serve: {interval: 0.9}
""")


async def test_bounds_stand_beside_the_number_by_stream_and_by_name(tmp_path: Path) -> None:
    plan, rows = prices(300, interval=SPEC.serve.interval)
    sent = rows.select(["size"]).to_pylist()[:10]
    batch = pa.RecordBatch.from_pylist([
        {features.EVENT_ID: f"e-{number}", features.ENTITY: f"e-{number}", features.SOURCE: "test",
         features.OCCURRED_AT: datetime(2026, 1, 1, tzinfo=UTC), features.SOURCE_OFFSET: number,
         features.OUTLIERS: [], **row} for number, row in enumerate(sent)], schema=features.features_schema(SPEC))
    async with world(tmp_path) as here:
        await here.registry.create("prices", partitions=1)
        await here.registry.announce_spec(SPEC)
        await here.registry.publish("prices", Learnt(plan, learn(plan, Given(rows), [])))
        await here.metric('lepton_predictor_model_version{model="prices",provider="CPUExecutionProvider"} 1.0')
        await here.registry.raw_features(SPEC, features.encode_batch(batch))
        streamed = {one.event_id: one for one in await here.predictions("prices", 10)}
        named = (await predict(here, "prices", sent)).rows
        assert all(one.low < one.number < one.high for one in named)
        assert [(one.number, one.low, one.high) for one in named] == [
            (found.number, found.low, found.high) for found in (streamed[f"e-{number}"] for number in range(10))]
