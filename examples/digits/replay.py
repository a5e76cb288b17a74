"""Sends scikit-learn's digits through a running Lepton and prints how many the served model reads rightly.

Images and late labels go to Kafka as any producer would send them; answers are read from Kafka as any consumer would.
The first 1,397 images are learnt from. The other 400 the model has never seen, and each answer counted was given
before the image's label was sent.

    python -m examples.digits.replay
"""

import argparse
import asyncio
import json
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from examples.digits.data import LEARNT_FROM, Image, images
from lepton.contracts.pb import predictions_pb2
from lepton_ai._credentials import Credentials, resolve

PIPELINE = "digits"
SOURCE = b"scikit-learn/digits"
TOGETHER = 100
"""Images sent before their answers are read and their labels told."""


@dataclass
class Score:
    """What was answered to images whose label was still to come."""

    waiting: dict[str, Image] = field(default_factory=dict)
    counted: int = 0
    wrong: list[tuple[int, str]] = field(default_factory=list)

    def prediction(self, event_id: str, label: str) -> None:
        one = self.waiting.pop(event_id, None)
        if one is not None:
            self.counted += 1
            if label != str(one.digit):
                self.wrong.append((one.digit, label))

    def line(self) -> str:
        share = 1 - len(self.wrong) / self.counted if self.counted else 0.0
        mistakes = ", ".join(f"{digit} read as {label}" for digit, label in self.wrong)
        return f"  {self.counted:4d} read   accuracy {share:.4f}" + (f"   ({mistakes})" if mistakes else "")


class Replay:
    """One replay: a producer of images and labels, a consumer of answers, a score."""

    def __init__(self, credentials: Credentials) -> None:
        self.run = f"{PIPELINE}-{datetime.now(UTC):%Y%m%d%H%M%S}"
        self.score = Score()
        self.rest = httpx.AsyncClient(base_url=credentials.rest, timeout=30,
                                      headers={"authorization": credentials.authorization})
        self.producer = AIOKafkaProducer(bootstrap_servers=credentials.kafka, enable_idempotence=True, acks="all")
        self.consumer = AIOKafkaConsumer(f"lepton-predictions-{PIPELINE}", bootstrap_servers=credentials.kafka,
                                         auto_offset_reset="latest", isolation_level="read_committed")

    async def __aenter__(self) -> "Replay":
        spec = (Path(__file__).parent / "pipeline.yaml").read_text()
        answer = await self.rest.post("/v1/pipelines", content=spec, headers={"content-type": "application/yaml"})
        if answer.is_error:
            raise SystemExit(f"the pipeline was refused: {answer.text}")
        await self.producer.start()
        await self.consumer.start()
        # The position must be fixed before the first image, or its answer would be missed.
        for partition in self.consumer.assignment():
            await self.consumer.position(partition)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.producer.stop()
        await self.consumer.stop()
        await self.rest.aclose()

    async def send(self, rows: Sequence[Image]) -> None:
        for one in rows:
            await self._produce("events", one, one.event(self.run))
        await self.producer.flush()

    async def tell(self, rows: Sequence[Image]) -> None:
        """What the images showed."""
        for one in rows:
            await self._produce("labels", one, one.label(self.run))
        await self.producer.flush()

    async def read(self, rows: Sequence[Image], timeout_s: float = 15.0) -> None:
        """Send images and read what the model says of them, until none is missing or `timeout_s` have passed."""
        self.score.waiting = {one.event_id(self.run): one for one in rows}
        await self.send(rows)
        deadline = time.monotonic() + timeout_s
        while self.score.waiting and time.monotonic() < deadline:
            for records in (await self.consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    served = predictions_pb2.PredictionServed.FromString(record.value)
                    self.score.prediction(served.event_id, served.label)

    async def served(self) -> bool:
        answer = await self.rest.get("/v1/instances")
        answer.raise_for_status()
        return any(model["model"] == PIPELINE for instance in answer.json() for model in instance.get("models", []))

    async def _produce(self, kind: str, one: Image, body: dict[str, object]) -> None:
        await self.producer.send(f"lepton-{kind}-{PIPELINE}", json.dumps(body).encode(),
                                 key=one.event_id(self.run).encode(),
                                 headers=[("content-type", b"application/json"), ("ce_source", SOURCE)])


async def replay() -> int:
    rows = images()
    first, rest = rows[:LEARNT_FROM], rows[LEARNT_FROM:]
    async with Replay(resolve()) as run:
        if await run.served():
            print("a model is served already: it may have seen these images before, so its score is flattered")
        print(f"{len(first)} images with their digits to learn from …", flush=True)
        started = time.monotonic()
        await run.send(first)
        await run.tell(first)
        while not await run.served():
            if time.monotonic() > started + 180:
                raise SystemExit("no model was published within 180 s: see `lepton status` and the trainer's log")
            await asyncio.sleep(0.5)
        print(f"  a model is served after {time.monotonic() - started:.1f} s; now {len(rest)} images it has never seen")
        for begin in range(0, len(rest), TOGETHER):
            some = rest[begin:begin + TOGETHER]
            await run.read(some)
            await run.tell(some)
            print(run.score.line(), flush=True)
        if not run.score.counted:
            print("no answer came back: see `lepton status` and `lepton incidents`", file=sys.stderr)
            return 1
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    # A topic made a moment ago has no leader yet everywhere; the client retries, and its lines would only alarm.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    return asyncio.run(replay())


if __name__ == "__main__":
    sys.exit(main())
