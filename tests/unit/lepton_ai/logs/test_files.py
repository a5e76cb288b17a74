"""Log files are read whole and in order of time, rotated ones too, and nothing of them is lost or shown twice."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lepton.errors import Missing
from lepton_ai._logs import entries, files
from lepton_ai._logs.entries import Level, Wanted
from lepton_ai._logs.files import Log

AT = 1_790_000_000.0
TRACE = "0af7651916cd43dd8448eb211c80319c"


def line(second: float, message: str, level: str = "info", **more: str) -> str:
    return json.dumps({"at": entries.stamp(AT + second), "level": level, "service": "ingest", "instance": "ingest",
                       "logger": "services.ingest", "message": message, **more}) + "\n"


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(lines))
    return path


@pytest.fixture
def logs() -> Iterator[list[Log]]:
    opened: list[Log] = []
    yield opened
    for log in opened:
        log.close()


def open_log(logs: list[Log], path: Path, *, followed: bool = False) -> Log:
    logs.append(Log(path, followed=followed))
    return logs[-1]


def messages(logs: list[Log], wanted: Wanted | None = None) -> list[str]:
    return [entry.message for entry in files.merged(logs, wanted or Wanted())]


def test_rotated_files_come_first_and_processes_are_merged_by_time(tmp_path: Path, logs: list[Log]) -> None:
    write(tmp_path / "ingest.log.2", line(1, "one"))
    write(tmp_path / "ingest.log.1", line(3, "three"))
    open_log(logs, write(tmp_path / "ingest.log", line(5, "five")))
    open_log(logs, write(tmp_path / "gateway.log", line(2, "two"), line(4, "four")))
    assert messages(logs) == ["one", "two", "three", "four", "five"]


def test_the_last_lines_reach_into_rotated_files(tmp_path: Path, logs: list[Log]) -> None:
    write(tmp_path / "kafka.log.1", *(f"old {place}\n" for place in range(50_000)))
    log = open_log(logs, write(tmp_path / "kafka.log", "new 0\n", "new 1\n"))
    assert log.last(4) == ["old 49998", "old 49999", "new 0", "new 1"]
    assert log.last(1) == ["new 1"]
    assert len(log.last(60_000)) == 50_002


def test_a_stack_trace_belongs_to_the_line_above_it(tmp_path: Path, logs: list[Log]) -> None:
    write(tmp_path / "kafka.log", "[2026-11-22 06:00:00,123] ERROR it broke (kafka.Server)\n",
          "java.io.IOException: no space\n", "\tat kafka.Server\n", "[2026-11-22 06:00:01,000] INFO on it goes\n")
    open_log(logs, tmp_path / "kafka.log")
    (broken,) = files.merged(logs, Wanted(pattern=entries.pattern("no space")))
    assert broken.level == "error"
    assert broken.text().splitlines()[1:] == ["java.io.IOException: no space", "\tat kafka.Server"]
    assert messages(logs, Wanted(level=Level.ERROR)) == [broken.message]


def test_lines_are_wanted_by_time_level_trace_and_pattern(tmp_path: Path, logs: list[Log]) -> None:
    open_log(logs, write(
        tmp_path / "ingest.log", line(1, "early", "error"), line(20, "batch of 3 rows"), line(21, "slow", "warning"),
        line(22, "lost", "error", trace_id=TRACE, error="KeyError: 'x'"), "no head\n"))
    assert messages(logs, Wanted(since=AT + 10)) == ["batch of 3 rows", "slow", "lost"]
    assert messages(logs, Wanted(level=Level.WARNING)) == ["early", "slow", "lost"]
    assert messages(logs, Wanted(trace=TRACE)) == ["lost"]
    assert messages(logs, Wanted(pattern=entries.pattern(r"of \d rows|KeyError"))) == ["batch of 3 rows", "lost"]


def test_a_line_without_end_is_shown_once_and_takes_little_memory(
        tmp_path: Path, logs: list[Log], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_LINE_BYTES", 100)
    open_log(logs, write(tmp_path / "ingest.log", "x" * 1000 + "\n", line(1, "next")[:90]))
    first, second = messages(logs)
    assert first == "x" * 100 + files.CUT
    assert len(second) == 90


def test_following_goes_on_over_a_rotation(tmp_path: Path, logs: list[Log]) -> None:
    path = write(tmp_path / "ingest.log", line(1, "before"))
    log = open_log(logs, path, followed=True)
    assert messages(logs) == ["before"]
    write(path, line(2, "last of the old"))
    path.rename(tmp_path / "ingest.log.1")
    write(path, line(3, "first of the new"), line(4, "half")[:20])
    seen = [entry.message for _ in range(2) for entry in log.grown()]
    assert seen == ["last of the old", "first of the new"]
    write(path, line(4, "half")[20:], "Traceback\n")
    (whole,) = [entry for _ in range(2) for entry in log.grown()]
    assert (whole.message, whole.error) == ("half", "Traceback")
    path.write_text(line(5, "begun anew"), "utf-8")
    assert [entry.message for _ in range(2) for entry in log.grown()] == ["begun anew"]


def test_half_a_line_that_was_there_at_first_is_shown_once_it_is_whole(tmp_path: Path, logs: list[Log]) -> None:
    path = write(tmp_path / "ingest.log", line(1, "whole"), line(2, "cut")[:30])
    log = open_log(logs, path, followed=True)
    assert messages(logs) == ["whole"]
    write(path, line(2, "cut")[30:])
    assert [entry.message for _ in range(2) for entry in log.grown()] == ["cut"]


def test_files_are_found_by_process_and_by_service(tmp_path: Path) -> None:
    for name in ("predictor-0", "predictor-1", "gateway"):
        write(tmp_path / f"{name}.log", "x\n")
    assert [path.stem for path in files.found(tmp_path)] == ["gateway", "predictor-0", "predictor-1"]
    assert [path.stem for path in files.found(tmp_path, ["gateway"], ["predictor"])] == [
        "gateway", "predictor-0", "predictor-1"]
    with pytest.raises(Missing, match=r"no log of service trainer.*there are gateway, predictor"):
        files.found(tmp_path, (), ["trainer"])
