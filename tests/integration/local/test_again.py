"""An installation brought up again: over its data, after a crash, with other settings; and what `up` prints, works."""

import asyncio
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from deploy.local import processes
from tests.harness.stack import ROOT, LocalStack
from tests.harness.wait import poll_until

pytestmark = [pytest.mark.kafka, pytest.mark.mongo, pytest.mark.process, pytest.mark.timeout(400)]


async def test_data_and_key_outlive_a_crash_and_a_change_of_settings(tmp_path: Path) -> None:
    stack = LocalStack(tmp_path / "home", tmp_path / "config")
    try:
        first = stack.up()
        assert stack.key in first
        await stack.post_text("/v1/pipelines", (ROOT / "examples" / "phishing" / "pipeline.yaml").read_text())
        crash(stack)

        after_crash = stack.up()
        assert "left from a crash and ended" in after_crash
        assert stack.key not in after_crash
        assert (await stack.get("/v1/pipelines"))[0]["name"] == "phishing"

        before = stack.pid("gateway")
        assert "runs already" in stack.up()
        assert stack.pid("gateway") == before

        lines = tried_lines(LocalStack(stack.home, tmp_path / "config", {"LEPTON_LOG_LEVEL": "debug"}).up())
        assert stack.pid("gateway") != before
        assert len(lines) == 3
        await asyncio.to_thread(each_works, lines, stack.client_env, tmp_path)
    finally:
        stack.down()


def each_works(lines: list[str], environment: dict[str, str], folder: Path) -> None:
    for line in lines:
        done = subprocess.run(["bash", "-c", line], cwd=folder, env=environment, capture_output=True, text=True,
                              timeout=60, check=False)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"


def crash(stack: LocalStack) -> None:
    """End the process manager alone, as the kernel does when memory is short."""
    manager = processes.manager(stack.home)
    os.kill(manager.pid(), signal.SIGKILL)
    poll_until(lambda: not manager.alive(), "the process manager to be gone")
    assert len(processes.find_processes(stack.home)) >= 8


def tried_lines(said: str) -> list[str]:
    """The lines that `up` printed for a person to try."""
    shown = re.search(r"^Try:\n(.*?)\n\n", said, re.MULTILINE | re.DOTALL)
    assert shown, said
    return [line.strip() for line in shown[1].splitlines()]
