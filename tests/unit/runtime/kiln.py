"""A small service for test_process.py; its behaviour is told by KILN_ variables."""

import asyncio
import logging
import os
import resource
import sys
from pathlib import Path
from typing import ClassVar

sys.path.insert(0, str(Path(__file__).parents[3]))

from lepton.errors import Unavailable
from lepton.runtime.service import Service, Stage, run
from lepton.runtime.settings import LeptonSettings


class KilnSettings(LeptonSettings):
    service: ClassVar[str] = "kiln"


class ClayStore:
    async def start(self) -> None:
        if os.environ.get("KILN_STORE") == "away":
            raise Unavailable("the clay store does not answer", remedy="open it")

    async def stop(self) -> None:
        logging.info("store closed")


async def fire(stop: asyncio.Event) -> None:
    await stop.wait()
    if os.environ.get("KILN_DRAINS") == "never":
        await asyncio.Event().wait()
    logging.info("drained")


def build(settings: KilnSettings) -> Service:
    service = Service("kiln", settings)
    service.add(Stage.STORE, "clay", ClayStore())
    service.spawn("fire", fire)
    return service


if __name__ == "__main__":
    if "KILN_FILES" in os.environ:
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(os.environ["KILN_FILES"]),
                                                    resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    run(build, KilnSettings)
