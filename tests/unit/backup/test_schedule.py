"""The schedule takes a backup when one is due, lets the oldest go, and goes on after one that failed."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deploy.backup import folder, schedule
from deploy.backup.settings import BackupSettings
from lepton.errors import Unavailable
from tests.unit.backup.conftest import Write

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)


class Ended(BaseException):
    """The process is told to end."""


class Days:
    """A clock on which sleep is what passes; it ends the process after `for_h` hours."""

    def __init__(self, for_h: float) -> None:
        self.at, self.end = NOON, NOON + timedelta(hours=for_h)
        self.sleeps: list[float] = []

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return (self.at - NOON).total_seconds()

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.at += timedelta(seconds=seconds)
        if self.at >= self.end:
            raise Ended


def settings(keep: int = 2) -> BackupSettings:
    return BackupSettings.model_construct(every_h=6.0, keep=keep, keep_days=0.0)


def taker(write: Write, clock: Days, failures: dict[int, Exception]) -> tuple[list[float], Callable[[], Path]]:
    """Hours at which a backup was tried, and what takes one; the n-th try fails where `failures` says so."""
    tried: list[float] = []

    def take() -> Path:
        tried.append(clock.monotonic() / 3600)
        if error := failures.get(len(tried)):
            raise error
        return write({}, name=folder.name("shop", clock.at), created=clock.at.isoformat())

    return tried, take


def test_one_is_taken_at_once_and_then_each_time_the_newest_is_old_enough(
        write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clock = Days(19)
    tried, take = taker(write, clock, {})
    with pytest.raises(Ended):
        schedule.run(take, tmp_path, "shop", settings(), clock)
    assert tried == [0, 6, 12, 18]
    assert [entry.created for entry in folder.entries(tmp_path)] == [NOON + timedelta(hours=at) for at in (12, 18)]
    told = capsys.readouterr().out
    assert (told.count("taken: "), told.count("removed: ")) == (4, 2)
    assert max(clock.sleeps) <= 60, "a backup that somebody takes or removes meanwhile would not be seen"


def test_one_that_failed_is_said_and_tried_again_and_nothing_older_goes_for_it(
        write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clock = Days(7)
    tried, take = taker(write, clock, {2: Unavailable("the broker is away"), 3: OSError(28, "No space left on device")})
    with pytest.raises(Ended):
        schedule.run(take, tmp_path, "shop", settings(keep=1), clock)
    assert [round(60 * at) for at in tried] == [0, 360, 361, 362]
    errors = capsys.readouterr().err.splitlines()
    assert [line.partition(": ")[0] for line in errors] == ["error", "error"]
    assert "the broker is away" in errors[0]
    assert "No space left" in errors[1]
    assert [entry.created for entry in folder.entries(tmp_path)] == [NOON + timedelta(minutes=362)]


def test_old_ones_that_cannot_be_removed_are_told_of_and_the_new_one_counts(
        write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> list[Path]:
        raise PermissionError(13, "Permission denied")

    clock = Days(7)
    tried, take = taker(write, clock, {})
    monkeypatch.setattr(schedule, "prune", denied)
    with pytest.raises(Ended):
        schedule.run(take, tmp_path, "shop", settings(keep=1), clock)
    assert tried == [0, 6]
    told = capsys.readouterr()
    assert told.out.count("taken: ") == 2
    assert told.err.count("old backups stay") == 2 and "no backup was taken" not in told.err


def test_after_a_start_it_goes_on_from_what_is_there(write: Write, tmp_path: Path) -> None:
    at = NOON - timedelta(hours=5)
    write({}, name=folder.name("shop", at), created=at.isoformat())
    clock = Days(2)
    tried, take = taker(write, clock, {})
    with pytest.raises(Ended):
        schedule.run(take, tmp_path, "shop", settings(), clock)
    assert tried == [1]
