"""Where a test's ingest process works: a broker, a database and topics of its own, and what it said."""

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.harness.process import service_process
from tests.unit.ingest.house import House, until

DRAIN_S = 8


@dataclass
class Place:
    """Where one test's ingest works."""

    house: House
    environment: dict[str, str]
    log: Path

    @contextmanager
    def ingest(self, instance: str = "ingest") -> Iterator[subprocess.Popen[bytes]]:
        """The process, killed at the end if it still lives."""
        environment = {**self.environment, "LEPTON_INSTANCE": f"{instance}-{self.house.name}"}
        with service_process("services.ingest", environment, self.log) as process:
            yield process

    def said(self) -> str:
        return self.log.read_text()[-4000:]


async def rows(place: Place, count: int, timeout_s: float = 60) -> list[dict[str, Any]]:
    async def enough() -> list[dict[str, Any]]:
        found = await place.house.rows()
        return found if len(found) >= count else []

    found: list[dict[str, Any]] = await until(enough, f"{count} rows; it said: {place.said()}", timeout_s)
    return found


async def ended(process: "subprocess.Popen[bytes]", timeout_s: float) -> int:
    return await asyncio.wait_for(asyncio.to_thread(process.wait), timeout_s)
