"""Backups are found by name, and the old ones go, but never those of another stack."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploy.backup import folder, schedule
from lepton.clock import FakeClock
from lepton.errors import Missing
from lepton_ai.cli.app import app
from tests.unit.backup.conftest import Write

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)


def backups(write: Write, *days: float) -> list[Path]:
    return [write({}, name=folder.name("shop", at), created=at.isoformat())
            for at in (NOON - timedelta(days=day) for day in sorted(days, reverse=True))]


def test_backups_are_listed_oldest_first_and_other_files_passed_over(write: Write, tmp_path: Path) -> None:
    made = backups(write, 0, 2, 1)
    (tmp_path / "note.lepton-backup").write_text("no backup")
    found = folder.entries(tmp_path)
    assert [entry.path for entry in found] == made
    assert {entry.stack for entry in found} == {"shop"}
    assert folder.find(tmp_path, "latest") == made[-1]
    assert folder.find(tmp_path, made[0].name) == folder.find(None, str(made[0])) == made[0]
    with pytest.raises(Missing, match="lepton backup list"):
        folder.find(tmp_path, "shop-19700101T000000Z")


def test_the_command_line_lists_a_line_for_each_oldest_first(
        write: Write, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    made = backups(write, 0, 2)
    done = CliRunner().invoke(app, ["backup", "list", "--to", str(tmp_path)])
    lines = [line.split() for line in capfd.readouterr().out.splitlines()]
    assert done.exit_code == 0, done.output
    assert [(line[0], line[1], line[-2], line[-1]) for line in lines] == [
        ("2026-05-02T12:00:00Z", "shop", "key", made[0].name), ("2026-05-04T12:00:00Z", "shop", "key", made[1].name)]


def test_the_newest_stay_whatever_their_age_and_the_young_whatever_their_number(write: Write, tmp_path: Path) -> None:
    made = backups(write, 30, 20, 10, 3, 1)
    assert folder.prune(tmp_path, "other", keep=1, keep_days=0, now=NOON) == []
    assert folder.prune(tmp_path, "shop", keep=1, keep_days=15, now=NOON) == made[:2]
    assert folder.prune(tmp_path, "shop", keep=2, keep_days=0, now=NOON) == made[2:3]
    assert [entry.path for entry in folder.entries(tmp_path)] == made[3:]


def test_a_backup_is_due_when_there_is_none_or_the_newest_is_old(write: Write, tmp_path: Path) -> None:
    clock = FakeClock(NOON)
    assert schedule.due_in(tmp_path / "none", "shop", 24, clock) == 0
    backups(write, 0.5, 3)
    assert schedule.due_in(tmp_path, "shop", 24, clock) == pytest.approx(12 * 3600)
    assert schedule.due_in(tmp_path, "shop", 6, clock) == 0
    assert schedule.due_in(tmp_path, "other", 24, clock) == 0
