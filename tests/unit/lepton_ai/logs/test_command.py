"""`lepton logs` filters what processes wrote, and names what is wrong with an option."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from lepton.errors import Invalid
from lepton_ai._logs import entries
from lepton_ai.cli.app import app
from tests.harness.wait import poll_until
from tests.unit.lepton_ai.logs.test_files import TRACE, line, write

ROOT = Path(__file__).resolve().parents[4]
Logs = Callable[..., Result]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write(tmp_path / "logs" / "ingest.log", line(1, "accepted 3 rows"), line(3, "lost", "error", trace_id=TRACE))
    write(tmp_path / "logs" / "kafka.log", "[2026-11-22 06:00:00,123] WARN slow disk (kafka.Server)\n", "plain\n")
    return tmp_path


@pytest.fixture
def logs(home: Path) -> Logs:
    def run(*arguments: str) -> Result:
        done = CliRunner().invoke(app, ["logs", "--home", str(home), *arguments], env={"COLUMNS": "200"})
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done
    return run


def test_lines_are_found_by_pattern_level_trace_and_service(logs: Logs) -> None:
    found = logs("--grep", r"accepted \d").stdout
    assert found == (f"{line_text(1)} info    ingest accepted 3 rows logger=services.ingest\n")
    assert logs("--level", "ERROR").stdout.count("\n") == 1
    assert "slow disk" in logs("--level", "warning", "--service", "kafka").stdout
    (told,) = map(json.loads, logs("--trace", f"00-{TRACE}-b7ad6b7169203331-01", "--json").stdout.splitlines())
    assert (told["message"], told["trace_id"], told["service"]) == ("lost", TRACE, "ingest")
    assert logs("--json", "-n", "1").stdout.count("\n") == 1
    assert logs("--since", "2026-11-22T00:00:00Z", "--grep", "lost").stdout == ""


def line_text(second: float) -> str:
    return entries.stamp(1_790_000_000.0 + second)


@pytest.mark.parametrize(("arguments", "told"), [
    (["--grep", "a(b"], r"not a regular expression: missing \), unterminated subpattern.*character 2"),
    (["--since", "ten"], "neither a length of time nor a time"),
    (["--since", "9999999999d"], "too long ago"),
    (["--trace", "abc"], "no trace id"),
])
def test_a_wrong_option_is_named(logs: Logs, arguments: list[str], told: str) -> None:
    with pytest.raises(Invalid, match=told):
        logs(*arguments)


def test_the_options_are_explained(logs: Logs) -> None:
    told = logs("--help").stdout
    for option in ("--service", "--since", "--grep", "--level", "--trace", "--follow", "--json", "--store", "--lines"):
        assert option in told
    assert logs("--level", "loud").exit_code == 2


def test_lengths_of_time() -> None:
    now = datetime(2026, 11, 22, 10, tzinfo=UTC)
    assert now.timestamp() - entries.since("1h30m", now) == 5400
    assert now.timestamp() - entries.since("0.5d", now) == 43_200
    assert entries.since("2026-11-22T09:00:00", now) == now.timestamp() - 3600


def test_the_command_follows_a_file_until_it_is_interrupted(home: Path) -> None:
    out = home / "out"
    with out.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-c", "from lepton_ai.cli import main; main()", "logs", "--home", str(home), "-f",
             "--grep", "rows", "-n", "5"], cwd=ROOT, env={**os.environ}, stdout=sink, stderr=subprocess.PIPE)
    try:
        poll_until(lambda: b"accepted 3 rows" in out.read_bytes(), "what was there")
        write(home / "logs" / "ingest.log", line(9, "accepted 4 rows"), line(9, "other"))
        poll_until(lambda: b"accepted 4 rows" in out.read_bytes(), "what came")
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert b"other" not in out.read_bytes()
    assert process.returncode == 130
