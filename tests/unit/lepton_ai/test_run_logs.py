"""How a run went, as TensorBoard reads it: written once, gone on with, and the same bytes when nothing is new."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]
from typer.testing import CliRunner

from lepton.errors import Refused
from lepton_ai import LeptonClient
from lepton_ai.cli.app import app
from tests.unit.lepton_ai.doors import KEY_ID, SECRET, Desk, open_door

BEGAN = 1_767_258_000.0
RUN = {"run_id": "run-1", "model": "shop", "state": "RUNNING", "epoch": 3, "epochs": 9}


@pytest.fixture
def desk() -> Desk:
    desk = Desk()
    desk.runs["run-1"] = dict(RUN)
    desk.courses["run-1"] = [
        {"epoch": 0, "at": "2026-01-01T09:00:00Z", "stage": "trial 1 of 2: mlp", "figures": {}},
        {"epoch": 0, "at": "2026-01-01T09:00:01Z", "stage": "trial 2 of 2: mlp", "figures": {"least_loss": 0.75}},
        *(epoch(number) for number in (1, 2, 3))]
    return desk


@pytest.fixture
def where(desk: Desk) -> Iterator[str]:
    with open_door(desk) as credentials:
        yield credentials.rest


def epoch(number: int) -> dict[str, Any]:
    return {"epoch": number, "at": f"2026-01-01T09:01:{number:02d}.500Z", "stage": "", "figures": {
        "training_loss": 1 / number, "validation_loss": 2 / number, "learning_rate": 0.5}}


def read(folder: Path) -> dict[str, list[tuple[float, int, float]]]:
    """Wall time since the run began, step and value of every point, by tag, as TensorBoard itself reads them."""
    found = EventAccumulator(str(folder))
    found.Reload()
    return {tag: [(one.wall_time - BEGAN, one.step, round(one.value, 6)) for one in found.Scalars(tag)]
            for tag in found.Tags()["scalars"]}


def test_a_board_reads_losses_and_rates_by_epoch(where: str, desk: Desk, tmp_path: Path) -> None:
    with LeptonClient(KEY_ID, SECRET, where) as client:
        assert [(point.epoch, point.stage) for point in client.runs.course("run-1")][1:3] == [
            (0, "trial 2 of 2: mlp"), (1, "")]
        folder = client.runs.write_logs("run-1", tmp_path)
    assert folder == tmp_path / "shop" / "run-1"
    assert read(folder) == {
        "search/least_loss": [(1.0, 2, 0.75)],
        "loss/training": [(61.5, 1, 1.0), (62.5, 2, 0.5), (63.5, 3, 0.333333)],
        "loss/validation": [(61.5, 1, 2.0), (62.5, 2, 1.0), (63.5, 3, 0.666667)],
        "learning_rate": [(61.5, 1, 0.5), (62.5, 2, 0.5), (63.5, 3, 0.5)]}


def test_a_course_that_got_on_is_appended_and_one_that_began_anew_replaces_it(where: str, desk: Desk,
                                                                              tmp_path: Path) -> None:
    with LeptonClient(KEY_ID, SECRET, where) as client:
        (file,) = client.runs.write_logs("run-1", tmp_path).iterdir()
        first = file.read_bytes()
        client.runs.write_logs("run-1", tmp_path)
        assert file.read_bytes() == first
        desk.courses["run-1"].append(epoch(4))
        desk.runs["run-1"] |= {"state": "SUCCEEDED", "metrics": {"accuracy": 0.875}, "version": 1}
        client.runs.write_logs("run-1", tmp_path)
        assert file.read_bytes().startswith(first)
        found = read(file.parent)
        assert found["held_out/accuracy"] == [(64.5, 4, 0.875)]
        assert len(found["loss/training"]) == 4
        desk.courses["run-1"] = [epoch(1)]
        client.runs.write_logs("run-1", tmp_path)
        assert len(read(file.parent)["loss/training"]) == 1
        assert [one.name for one in file.parent.iterdir()] == [file.name]
        (tmp_path / "full").touch()
        with pytest.raises(Refused, match="cannot be written"):
            client.runs.write_logs("run-1", tmp_path / "full")


def test_the_command_line_writes_a_run_until_it_has_ended_or_shows_it(where: str, desk: Desk, tmp_path: Path) -> None:
    desk.runs["run-1"] |= {"state": "FAILED"}
    desk.run_states = [{"state": "RUNNING", "epoch": number} for number in (1, 2, 3)]
    of = ["--key", KEY_ID, "--secret", SECRET, "--region", where, "runs", "logs", "run-1"]
    written = CliRunner().invoke(app, [*of, "--to", str(tmp_path), "--follow"])
    assert f"tensorboard --logdir {tmp_path}" in written.stdout
    assert desk.run_states == []
    assert len(read(tmp_path / "shop" / "run-1")["loss/training"]) == 3
    shown = CliRunner().invoke(app, [*of, "-o", "json"])
    assert json.loads(shown.stdout)[-1]["figures"]["learning_rate"] == 0.5
    table = CliRunner().invoke(app, of)
    assert "training_loss" in table.stdout
