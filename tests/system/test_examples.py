"""The examples of streams and of a pulled table, from data that comes with packages, as their pages have them typed."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.harness.stack import ROOT, LocalStack
from tests.harness.wait import apoll_until

pytestmark = [pytest.mark.kafka, pytest.mark.mongo, pytest.mark.process, pytest.mark.timeout(300)]


async def run(stack: LocalStack, module: str, *arguments: str) -> str:
    done = await asyncio.to_thread(subprocess.run, [sys.executable, "-m", f"examples.{module}", *arguments], cwd=ROOT,
                                   env=stack.client_env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


async def first_answer(stack: LocalStack, model: str, row: dict[str, Any]) -> dict[str, Any]:
    """The answer to the row, once a predictor serves the model."""
    async def served() -> dict[str, Any] | None:
        async with stack.rest_client() as rest:
            answer = await rest.post(f"/v1/models/{model}/predict", json={"rows": [row]})
        return dict(answer.json()["rows"][0]) if answer.is_success else None

    found = await apoll_until(served, f"a model {model}", 180)
    assert found is not None
    return found


async def metrics(stack: LocalStack, model: str) -> dict[str, float]:
    """Those of the champion."""
    (state,) = [one for one in await stack.get("/v1/models") if one["model"] == model]
    return dict(next(one["metrics"] for one in state["versions"] if one["version"] == state["champion"]))


async def all_stored(stack: LocalStack, pipeline: str, rows: int) -> None:
    async def stored() -> bool:
        return bool((await stack.get(f"/v1/datasets/{pipeline}"))["rows"] == rows)

    await apoll_until(stored, f"{rows} rows of {pipeline}, each once")


async def test_a_recorded_stream_with_windows_and_late_labels(stack: LocalStack, tmp_path: Path) -> None:
    (tmp_path / "chicks.jsonl").write_text(await run(stack, "chicks.data"))
    await stack.lepton("apply", "-f", str(ROOT / "examples" / "chicks" / "pipeline.yaml"))
    await stack.lepton("replay", str(tmp_path / "chicks.jsonl"), "--pipeline", "chicks", "--rate", "200",
                       "--label-after", "1")
    row = {"weight_g": 120, "day": 10, "diet": "diet-1", "recent_min": 99, "recent_max": 120}
    answer = await first_answer(stack, "chicks", row)
    assert 110 < answer["number"] < 180, "a chick of 120 g weighs more two days later, and not twice as much"
    assert (await metrics(stack, "chicks"))["r2"] >= 0.8
    await all_stored(stack, "chicks", 578)


async def test_a_table_that_is_pulled(stack: LocalStack) -> None:
    clinic = stack.client_env["LEPTON_SOURCE_CLINIC_URL"].removeprefix("sqlite:///")
    # In a stack that is kept it is filled already.
    if not await asyncio.to_thread(Path(clinic).exists):
        await run(stack, "diabetes.fill", "--database", clinic, "--rate", "0")
    await stack.lepton("apply", "-f", str(ROOT / "examples" / "diabetes" / "pipeline.yaml"))
    answer = await first_answer(stack, "diabetes", {"age": 59, "sex": "a", "bmi": 32.1, "blood_pressure": 101})
    assert 25 <= answer["number"] <= 346, "a progression outside of what was ever seen"
    assert (await metrics(stack, "diabetes"))["r2"] >= 0.3
    await all_stored(stack, "diabetes", 442)
    assert "clinic" in await stack.lepton("get", "sources", "diabetes")
