"""Replays the weighings of examples/chicks through a running Lepton, each label as late as it was known.

Day by day the events of all chicks go to Kafka; the label of a weighing follows when the chick is next weighed. Windows
over a chick's weighings are worked out by ingest and logged with the event; a model learns from them; its answers are
read from Kafka, every one made before the event's label was sent. Beside its mean error stands the plainest forecast:
a chick will weigh what it weighs now.

    python -m examples.chicks.replay
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
from itertools import groupby
from pathlib import Path

import httpx
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from examples.chicks.data import Weighing, weighings
from lepton.contracts.pb import predictions_pb2
from lepton_ai._credentials import Credentials, resolve

PIPELINE = "chicks"
LEARNT_FROM = 32
"""Chicks whose labelled weighings go first, for the first model to learn from."""


@dataclass
class Score:
    """Mean errors in grams of the model and of the plainest forecast, on the same weighings."""

    waiting: dict[str, Weighing] = field(default_factory=dict)
    errors: list[float] = field(default_factory=list)
    plain_errors: list[float] = field(default_factory=list)

    def prediction(self, event_id: str, number: float) -> None:
        one = self.waiting.pop(event_id, None)
        if one is not None and one.next_g is not None:
            self.errors.append(abs(number - one.next_g))
            self.plain_errors.append(abs(one.weight_g - one.next_g))

    def line(self) -> str:
        count = max(1, len(self.errors))
        return (f"  {len(self.errors):4d} scored   mean error {sum(self.errors) / count:5.1f} g   "
                f"same weight again {sum(self.plain_errors) / count:5.1f} g")


class Replay:
    """One replay: a producer of events and labels, a consumer of predictions, a score."""

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
        # The position must be fixed before the first event, or its prediction would be missed.
        for partition in self.consumer.assignment():
            await self.consumer.position(partition)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.producer.stop()
        await self.consumer.stop()
        await self.rest.aclose()

    async def send(self, rows: Sequence[Weighing], scored: bool) -> None:
        """Day by day: the labels of the weighings before become known, then come the day's events."""
        before: dict[int, Weighing] = {}
        for _, today in groupby(rows, key=lambda one: one.day):
            now = list(today)
            for one in now:
                if one.chick in before:
                    await self._label(before[one.chick])
                before[one.chick] = one
                await self._event(one)
                if scored and one.next_g is not None:
                    self.score.waiting[one.event(self.run)["event_id"]] = one
            await self.producer.flush()
            if scored:
                await self.settle()
                print(f"  day {now[0].day:2d}{self.score.line()}", flush=True)

    async def settle(self, timeout_s: float = 15.0) -> None:
        """Read predictions until none is missing or `timeout_s` have passed."""
        deadline = time.monotonic() + timeout_s
        while self.score.waiting and time.monotonic() < deadline:
            for records in (await self.consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    served = predictions_pb2.PredictionServed.FromString(record.value)
                    self.score.prediction(served.event_id, served.number)

    async def served(self) -> bool:
        answer = await self.rest.get("/v1/instances")
        answer.raise_for_status()
        return any(model["model"] == PIPELINE for instance in answer.json() for model in instance.get("models", []))

    async def _event(self, one: Weighing) -> None:
        body = one.event(self.run)
        await self.producer.send(f"lepton-events-{PIPELINE}", json.dumps(body).encode(), key=body["chick"].encode(),
                                 headers=[("content-type", b"application/json"), ("ce_source", b"river/chick-weights")])

    async def _label(self, one: Weighing) -> None:
        body = one.label(self.run)
        await self.producer.send(f"lepton-labels-{PIPELINE}", json.dumps(body).encode(), key=body["event_id"].encode())


async def replay() -> int:
    rows = weighings()
    async with Replay(resolve()) as run:
        first = [one for one in rows if one.chick <= LEARNT_FROM]
        print(f"{len(first)} weighings of {LEARNT_FROM} chicks to learn from …", flush=True)
        started = time.monotonic()
        await run.send(first, scored=False)
        while not await run.served():
            if time.monotonic() > started + 120:
                raise SystemExit("no model was published within 120 s: see `lepton status` and the trainer's log")
            await asyncio.sleep(0.5)
        print(f"  a model is served after {time.monotonic() - started:.1f} s; now chicks it has never seen", flush=True)
        await run.send([one for one in rows if one.chick > LEARNT_FROM], scored=True)
        if not run.score.errors:
            print("no prediction came back: see `lepton status` and `lepton incidents`", file=sys.stderr)
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
