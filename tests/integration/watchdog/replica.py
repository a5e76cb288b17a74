"""A process that says in its heartbeats what a predictor says: of the requests that come, it answers so many a second.

`python -m tests.integration.watchdog.replica`: what comes stands in a file, and is shared by those that run.
"""

import asyncio
from pathlib import Path
from typing import ClassVar

from lepton.bus import kafka
from lepton.bus.presence import Connection, announce
from lepton.bus.producer import Producer
from lepton.contracts import names
from lepton.runtime.loops import pause
from lepton.runtime.service import Service, Stage, run
from lepton.runtime.settings import LeptonSettings

ANSWERS = 100.0
EVERY_S = 0.2


class ReplicaSettings(LeptonSettings):
    """`folder`: where `load` says how many requests a second come, and each replica leaves a mark while it runs."""

    service: ClassVar[str] = "predictor"

    folder: Path


def build(settings: ReplicaSettings) -> Service:
    service = Service("predictor", settings)
    broker = kafka.connect(settings.broker_options(), service.clock)
    producer = Producer(broker, settings.instance, service.telemetry)
    service.add(Stage.STORE, "broker", Connection(broker))
    service.add(Stage.BUS, "producer", producer)
    announce(service, producer)
    mark = settings.folder / f"up-{settings.instance}"

    async def work(stop: asyncio.Event) -> None:
        mark.touch()
        while not await pause(stop, EVERY_S, service.clock):
            share = float((settings.folder / "load").read_text()) / len(list(settings.folder.glob("up-*")))
            for outcome, rate in (("ok", min(share, ANSWERS)), ("Busy", share - min(share, ANSWERS))):
                service.telemetry.count(names.PREDICTION_REQUESTS, rate * EVERY_S, model="shop", outcome=outcome)
        mark.unlink()

    service.spawn("work", work)
    return service


if __name__ == "__main__":
    run(build, ReplicaSettings)
