"""The SDK program of the README, unchanged, against a running stack."""

import asyncio
import csv
import subprocess
import sys
import uuid
from pathlib import Path

import polars
import pyarrow as pa
import pytest
from sklearn.datasets import load_diabetes

from examples.bananas.write import points
from examples.writing import write
from lepton.errors import Invalid
from lepton_ai import AsyncLeptonClient
from tests.harness.ledger import Tail, ids_of_features
from tests.harness.stack import LocalStack
from tests.harness.wait import apoll_until

pytestmark = [pytest.mark.kafka, pytest.mark.mongo, pytest.mark.process, pytest.mark.timeout(300)]

PROGRAM = """\
from lepton_ai import LeptonClient
client = LeptonClient('AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'REGION_NAME')
data = client.load_data('dataset')
cleaned_data = client.data_clean(data)
model = client.train_model('linear_regression', cleaned_data)
fine_tuned_model = client.fine_tune(model, 'fine_tuning_data')
api = client.deploy_model(fine_tuned_model)
client.monitor_model(api)
"""


def write_rows(path: Path, first: int, last: int) -> None:
    data = load_diabetes(scaled=False)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*data.feature_names, "target"])
        rows = list(zip(data.data, data.target, strict=True))[first:last]
        writer.writerows([*map(float, x), float(y)] for x, y in rows)


async def test_the_program_runs_unchanged_and_serves_the_fine_tuned_model(stack: LocalStack, tmp_path: Path) -> None:
    write_rows(tmp_path / "dataset.csv", 0, 300)
    write_rows(tmp_path / "fine_tuning_data.csv", 300, 442)
    (tmp_path / "program.py").write_text(PROGRAM)
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "program.py"], cwd=tmp_path, env=stack.client_env, timeout=240,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout
    models = [state for state in await stack.get("/v1/models") if state["model"].startswith("dataset-")]
    assert len(models) == 1, done.stdout
    champion = next(version for version in models[0]["versions"] if version["version"] == models[0]["champion"])
    assert champion["lineage"]["parent_version"], "the served version did not grow from the trained one"
    assert champion["metrics"]["r2"] > 0.2, champion["metrics"]
    answer = await stack.post(f"/v1/models/{models[0]['model']}/predict", {"rows": [{"bmi": 32.1, "bp": 101.0}]})
    assert 25 < answer["rows"][0]["number"] < 346, "a prediction outside of what was ever seen"


async def test_frames_and_mappings_are_sent_as_events(stack: LocalStack) -> None:
    pipeline = f"sent-{uuid.uuid4().hex[:8]}"
    await stack.post_text("/v1/pipelines", f"""\
apiVersion: lepton/v1
kind: Pipeline
metadata: {{name: {pipeline}}}
events: {{entity: door, partitions: 4, fields: {{opened_s: {{type: float}}}}}}
""")

    def some(kind: str, count: int) -> dict[str, list[object]]:
        return {"event_id": [f"{kind}-{n}" for n in range(count)], "door": [f"door-{n % 7}" for n in range(count)],
                "opened_s": [n / 4 for n in range(count)]}

    key_id, _, secret = stack.key.partition(".")
    async with (Tail(stack.kafka, f"lepton-features-{pipeline}", ids_of_features, "") as features,
                AsyncLeptonClient(key_id, secret, stack.rest) as client):
        # More rows than one request takes, of either kind.
        assert await client.send(pipeline, pa.table(some("arrow", 60_000))) == 60_000
        assert await client.send(pipeline, polars.DataFrame(some("polars", 100))) == 100
        assert await client.send(pipeline, pa.RecordBatch.from_pydict(some("batch", 10))) == 10
        assert await client.send(pipeline, pa.table(some("lines", 1500)).to_pylist()) == 1500
        expected = [f"{kind}-{n}" for kind, count in (("arrow", 60_000), ("polars", 100), ("batch", 10),
                                                      ("lines", 1500)) for n in range(count)]

        async def arrived() -> bool:
            await features.read()
            return not features.missing(expected)

        await apoll_until(arrived, "every event among the features", 120)
        with pytest.raises(Invalid, match="opened"):
            await client.send(pipeline, pa.table({"event_id": ["x"], "door": ["d"], "opened": [1.0]}))
    assert not features.doubled()


async def test_the_file_of_the_example_becomes_a_model(stack: LocalStack, tmp_path: Path) -> None:
    example = Path(__file__).parents[2] / "examples" / "bananas"
    path = tmp_path / "bananas.csv"
    write(points(), path)
    await stack.lepton("apply", "-f", str(example / "pipeline.yaml"))
    assert "5,300 rows" in await stack.lepton("upload", str(path), "--pipeline", "bananas")

    async def served() -> list[dict[str, object]]:
        async with stack.rest_client() as rest:
            answer = await rest.post("/v1/models/bananas/predict", json={
                "rows": [{"x": 1.6, "y": -0.9}, {"x": -1.4, "y": 1.1}]})
        return list(answer.json()["rows"]) if answer.is_success else []

    rows = await apoll_until(served, "a model of the file", 180)
    assert [row["label"] in ("true", "false") for row in rows] == [True, True]
