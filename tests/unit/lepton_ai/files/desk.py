"""The SDK and the command line in front of a whole gateway."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from lepton.contracts.envelope import Envelope
from lepton.errors import LeptonError
from lepton_ai import AsyncLeptonClient
from lepton_ai.cli.app import app
from tests.unit.gateway.house import House

ROOT = Path(__file__).resolve().parents[4]


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


def credentials(house: House) -> tuple[str, str, str]:
    key_id, _, secret = house.settings.bootstrap_file.read_text().strip().partition(".")
    return key_id, secret, f"http://{house.address}"


@asynccontextmanager
async def client(house: House) -> AsyncIterator[AsyncLeptonClient]:
    async with AsyncLeptonClient(*credentials(house)) as opened:
        yield opened


async def start(house: House, *arguments: str, state: Path | None = None) -> asyncio.subprocess.Process:
    """The `lepton` command in a process of its own."""
    key, secret, region = credentials(house)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(state or house.settings.state_dir)}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", "from lepton_ai.cli import main; main()", "--key", key, "--secret", secret,
        "--region", region, *arguments, env=environment, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE)


async def lepton(house: House, *arguments: str) -> Done:
    """The command in a thread of this process, which spares the start of another."""
    key, secret, region = credentials(house)
    told = ["--key", key, "--secret", secret, "--region", region, *arguments]
    environment = {"XDG_STATE_HOME": str(house.settings.state_dir)}
    done = await asyncio.to_thread(CliRunner().invoke, app, told, env=environment)
    if isinstance(done.exception, LeptonError):
        return Done(1, done.stdout, f"{done.stderr}lepton: {done.exception}\n")
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Done(done.exit_code, done.stdout, done.stderr)


async def events(house: House, pipeline: str = "shop", kind: str = "events") -> list[tuple[str, dict[str, Any]]]:
    """Event id and value of every record, by partition and offset; the value's own id where headers name none."""
    found = []
    for record in await house.records(f"lepton-{kind}-{pipeline}"):
        value = json.loads(record.value or b"")
        found.append((Envelope.from_headers(record.headers).event_id or value["event_id"], value))
    return found
