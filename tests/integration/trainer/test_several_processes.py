"""A run's real processes under torch elastic: the same bytes as one process gives, whoever dies on the way."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from lepton.contracts.modelling.blocks import Parameters
from lepton.contracts.modelling.training_blocks import Scale
from services.trainer import worker
from tests.harness.process import ROOT
from tests.harness.wait import poll_until
from tests.unit.trainer import samples
from tests.unit.trainer.folders import furnish

pytestmark = pytest.mark.process
WITHIN_S = 240


def lay_out(folder: Path, epochs: int) -> None:
    """A run of two processes, long enough to be interrupted."""
    furnish(folder, *samples.wine(family="mlp", scale=Scale(processes=2), parameters=Parameters(
        epochs=epochs, hidden=(8,), dropout=0.1, patience=10_000)))


@contextmanager
def launched(folder: Path, log: Path, told: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """What the trainer starts, and what is started on each further machine."""
    with log.open("ab") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.trainer.worker", "launch", str(folder), str(os.getpid())], cwd=ROOT,
            env={**os.environ, **(told or {})}, stdout=sink, stderr=sink)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)


def workers(launcher: subprocess.Popen[bytes]) -> dict[tuple[str, str], psutil.Process]:
    """Those alive, by which life of the run they belong to and their rank."""
    found = {}
    for one in psutil.Process(launcher.pid).children():
        try:
            told = one.environ()
        except psutil.Error:
            continue
        if "RANK" in told:
            found[told["TORCHELASTIC_RESTART_COUNT"], told["RANK"]] = one
    return found


def files(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in (worker.WEIGHTS, worker.MODEL)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same plan, learnt by one process."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    lay_out(folder, epochs=200)
    assert worker.train(folder) == 0
    return folder


def test_a_killed_process_is_started_again_and_the_run_ends_as_if_nothing_had_been(tmp_path: Path, alone: Path) -> None:
    folder = tmp_path / "run"
    lay_out(folder, epochs=200)
    with launched(folder, tmp_path / "log") as launcher:
        poll_until((folder / worker.CHECKPOINT).exists, "the first epoch", WITHIN_S)
        workers(launcher)["0", "1"].send_signal(signal.SIGKILL)
        poll_until(lambda: launcher.poll() is not None, "the run's end", WITHIN_S)
        assert launcher.returncode == 0, (tmp_path / "log").read_text()
    log = (tmp_path / "log").read_text()
    assert "Signal 9" in log or "-9" in log, log
    assert files(folder) == files(alone)
    told = (folder / worker.PROGRESS).read_text().splitlines()
    # What was learnt before the death is not learnt again, but for the epoch it came in; one process alone tells.
    assert 200 <= len(told) <= 202


def test_machines_with_the_same_command_share_a_run_which_goes_on_when_one_of_them_is_lost(
        tmp_path: Path, alone: Path) -> None:
    folder = tmp_path / "run"
    lay_out(folder, epochs=200)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{free.getsockname()[1]}"
    told = {"PET_NNODES": "1:2", "PET_NPROC_PER_NODE": "1", worker.MEETING: endpoint, "PET_LOCAL_ADDR": "127.0.0.1",
            "GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo"}
    patience = "last_call_timeout=20,keep_alive_interval=1"
    with (launched(folder, tmp_path / "one", told | {"PET_RDZV_CONF": f"is_host=true,{patience}"}) as one,
          launched(folder, tmp_path / "other", told | {"PET_RDZV_CONF": f"is_host=false,{patience}"}) as other):
        poll_until(lambda: (folder / worker.CHECKPOINT).exists() and workers(other), "an epoch of both", WITHIN_S)
        other.kill()
        poll_until(lambda: one.poll() is not None, "the run's end", WITHIN_S)
        assert one.returncode == 0, (tmp_path / "one").read_text()
    assert files(folder) == files(alone)


def test_a_failure_is_told_once_and_ends_all_processes(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    plan, rows = samples.wine(family="mlp", scale=Scale(processes=2))
    furnish(folder, plan, rows.slice(0, 4))
    with launched(folder, tmp_path / "log") as launcher:
        poll_until(lambda: launcher.poll() is not None, "the run's end", WITHIN_S)
    assert launcher.returncode == 0, (tmp_path / "log").read_text()
    assert b'"too_few_rows"' in (folder / worker.FAILURE).read_bytes()
    assert not (folder / worker.RESULT).exists()
