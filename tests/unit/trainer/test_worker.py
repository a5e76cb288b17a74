"""A run's process seen from its folder: what it leaves there, and that it begins anew when a checkpoint is no use."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lepton.contracts.modelling.blocks import Parameters
from services.trainer import worker
from services.trainer.edge.source import PARTS, code_version
from tests.unit.trainer import samples
from tests.unit.trainer.folders import furnish

ROOT = Path(__file__).parents[3]


def test_it_leaves_a_model_weights_and_last_a_result(tmp_path: Path) -> None:
    furnish(tmp_path, *samples.wine(parameters=Parameters(epochs=3)))
    assert worker.train(tmp_path) == 0
    result = json.loads((tmp_path / worker.RESULT).read_text())
    assert result["manifest"]["size_bytes"] == str((tmp_path / worker.MODEL).stat().st_size)
    assert result["epochs"] == 3
    assert not result["compared"]
    lines = [json.loads(line) for line in (tmp_path / worker.PROGRESS).read_text().splitlines()]
    assert [(line["epoch"], line["epochs"]) for line in lines] == [(1, 3), (2, 3), (3, 3)]
    assert (tmp_path / worker.CHECKPOINT).exists()
    assert not (tmp_path / worker.FAILURE).exists()
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_a_version_says_which_code_made_it(tmp_path: Path) -> None:
    furnish(tmp_path, *samples.wine(parameters=Parameters(epochs=1)))
    assert worker.train(tmp_path) == 0
    told = json.loads((tmp_path / worker.RESULT).read_text())["manifest"]["lineage"]["code_version"]
    assert re.fullmatch(r"[^+]+\+[0-9a-f]{16}", told)
    # The same code, copied to where there is neither a checkout nor a package.
    elsewhere = tmp_path / "elsewhere"
    for part in PARTS:
        shutil.copytree(ROOT / part, elsewhere / part, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    assert code_version(elsewhere) == told
    loop = elsewhere / "services/trainer/core/loop.py"
    loop.write_text(loop.read_text() + "\n")
    changed = code_version(elsewhere)
    loop.rename(loop.with_name("circle.py"))
    assert len({told, changed, code_version(elsewhere)}) == 3


def test_it_leaves_a_failure_by_class(tmp_path: Path) -> None:
    plan, rows = samples.wine()
    furnish(tmp_path, plan, rows.slice(0, 4))
    assert worker.train(tmp_path) == 0
    failure = json.loads((tmp_path / worker.FAILURE).read_text())
    assert failure["class"] == "data"
    assert failure["name"] == "too_few_rows"
    assert failure["message"]
    assert failure["remedy"]
    assert not (tmp_path / worker.RESULT).exists()


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 cut short", b"not a zip at all"])
def test_a_damaged_checkpoint_costs_its_epochs_and_not_the_run(tmp_path: Path, damage: bytes) -> None:
    furnish(tmp_path / "whole", *samples.wine(parameters=Parameters(epochs=3)))
    furnish(tmp_path / "hurt", *samples.wine(parameters=Parameters(epochs=3)))
    (tmp_path / "hurt" / worker.CHECKPOINT).write_bytes(damage)
    for name in ("whole", "hurt"):
        worker.train(tmp_path / name)
    assert (tmp_path / "hurt" / worker.WEIGHTS).read_bytes() == (tmp_path / "whole" / worker.WEIGHTS).read_bytes()


def test_it_does_not_begin_without_the_parent_it_was_promised_to(tmp_path: Path) -> None:
    # In a process of its own: it asks the kernel to end it with its parent.
    orphan = subprocess.run([sys.executable, "-m", "services.trainer.worker", "train", str(tmp_path), "1"], cwd=ROOT,
                            capture_output=True, timeout=60)
    assert orphan.returncode == 1
    assert list(tmp_path.iterdir()) == []


def test_it_says_how_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert worker.main(["train"]) == 2
    assert "usage:" in capsys.readouterr().err
