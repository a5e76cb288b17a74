"""The SDK program of the README, unchanged, against a running stack."""

import asyncio
import csv
import subprocess
import sys
from pathlib import Path

import pytest
from sklearn.datasets import load_diabetes

from tests.harness.stack import LocalStack

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
