"""Runs are asked for, followed live, listed and cancelled, by SDK and command line alike."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from lepton.errors import Refused
from lepton_ai import LeptonClient
from lepton_ai.cli.app import app
from tests.unit.lepton_ai.doors import KEY_ID, SECRET, Desk, open_door

Lepton = Callable[..., Result]
STATES: list[dict[str, Any]] = [{"state": "QUEUED"}, {"state": "RUNNING", "stage": "trial 1 of 2"},
          {"state": "RUNNING", "stage": "learning", "epoch": 1, "epochs": 2,
           "metrics": {"validation_loss": 0.5, "training_loss": 0.25}}]
FAILURE = {"failure_class": "DATA", "name": "one_class", "message": "all rows have the same label",
           "remedy": "send labels of at least two classes"}


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def where(desk: Desk) -> Iterator[str]:
    with open_door(desk) as credentials:
        yield credentials.rest


@pytest.fixture
def client(where: str) -> Iterator[LeptonClient]:
    with LeptonClient(KEY_ID, SECRET, where) as opened:
        yield opened


@pytest.fixture
def lepton(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lepton:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Result:
        done = CliRunner().invoke(app, ["--key", KEY_ID, "--secret", SECRET, "--region", where, *arguments])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done
    return run


def running(desk: Desk, run_id: str = "run-1") -> str:
    desk.runs[run_id] = {"run_id": run_id, "model": "shop", "state": "RUNNING", "epoch": 3, "epochs": 9, "priority": 5}
    return run_id


def test_a_program_asks_follows_and_reads_why_it_failed(client: LeptonClient, desk: Desk) -> None:
    desk.outcome = {"state": "FAILED", "failure": FAILURE}
    asked = client.runs.train("shop", family="mlp", search={"trials": 2}, priority=7, snapshot="a" * 64)
    (command,) = desk.commands
    assert (command["priority"], command["search"], command["snapshot"]) == (7, {"trials": 2}, "a" * 64)
    desk.run_states = [dict(one) for one in STATES]
    seen = list(client.runs.follow(asked))
    assert [(one.state, one.stage, one.epoch) for one in seen] == [
        ("queued", "", 0), ("running", "trial 1 of 2", 0), ("running", "learning", 1), ("failed", "", 0)]
    assert (seen[-1].failure_name, seen[-1].remedy) == ("one_class", FAILURE["remedy"])
    assert [one.run_id for one in client.runs.list("shop", limit=5)] == [asked.run_id]


def test_a_program_cancels_a_run_and_not_one_that_is_over(client: LeptonClient, desk: Desk) -> None:
    run_id = running(desk)
    assert client.runs.get(run_id).priority == 5
    assert client.runs.cancel(run_id).state == "cancelled"
    with pytest.raises(Refused, match="is over"):
        client.runs.cancel(run_id)


def test_a_run_is_shown_live_until_it_has_ended(lepton: Lepton, desk: Desk) -> None:
    desk.outcome = {"state": "SUCCEEDED", "metrics": {"accuracy": 0.9}, "model": "shop"}
    desk.run_states = [dict(one) for one in STATES]
    shown = lepton("train", "shop", "--search", '{"trials": 2}', "--priority", "-5", "--follow")
    (command,) = desk.commands
    assert (command["priority"], command["search"]) == (-5, {"trials": 2})
    assert "trial 1 of 2" in shown.stderr and "learning" in shown.stderr
    assert "succeeded, version 1 (accuracy 0.9)" in shown.stdout
    assert shown.exit_code == 0


def test_a_run_that_failed_is_told_by_name_and_exit_code(lepton: Lepton, desk: Desk) -> None:
    desk.runs["run-1"] = {"run_id": "run-1", "model": "shop", "state": "FAILED", "failure": FAILURE}
    shown = lepton("runs", "follow", "run-1")
    assert shown.exit_code == 1
    assert "one_class: all rows have the same label; send labels" in shown.stdout
    assert "one_class" in lepton("runs", "list").stdout
    assert json.loads(lepton("runs", "show", "run-1", "-o", "json").stdout)["failure"] == FAILURE


def test_a_run_is_cancelled_from_the_command_line(lepton: Lepton, desk: Desk) -> None:
    run_id = running(desk)
    assert "cancelled" in lepton("runs", "cancel", run_id, "--wait").stdout
    assert desk.runs[run_id]["state"] == "CANCELLED"
