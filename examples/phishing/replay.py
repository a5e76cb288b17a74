"""Replays river's Phishing stream through a running Lepton and prints how well the served model does.

Events and late labels go to Kafka as any producer would send them; predictions are read from Kafka as any consumer
would. Every prediction counted was made before the event's label was sent. Beside the running accuracy stands the
majority baseline: always answering the class seen most often so far.

    python -m examples.phishing.replay                        the stream, in river's order
    python -m examples.phishing.replay --poison 0.8           most of a second source's events are broken
    python -m examples.phishing.replay --flip-labels          every label is inverted
"""

import argparse
import asyncio
import contextlib
import json
import logging
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from river import datasets

from lepton.contracts.pb import predictions_pb2
from lepton_ai._credentials import Credentials, resolve

PIPELINE = "phishing"
LABEL_DELAY_EVENTS = 20
FIRST_BATCH = 260
SOURCE = "river/phishing"
BROKEN_SOURCE = "river/broken-sensor"


@dataclass
class Score:
    """Running accuracy of served predictions and of the majority baseline on the same events."""

    labels: dict[str, bool] = field(default_factory=dict)
    counted: int = 0
    correct: int = 0
    baseline_correct: int = 0
    seen: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})
    recent: deque[bool] = field(default_factory=lambda: deque(maxlen=100))

    def label(self, event_id: str, value: bool) -> None:
        self.labels[event_id] = value

    def prediction(self, event_id: str, answer: bool) -> None:
        truth = self.labels.pop(event_id, None)
        if truth is None:
            return
        majority = self.seen[True] > self.seen[False]
        self.counted += 1
        self.correct += answer == truth
        self.baseline_correct += majority == truth
        self.recent.append(answer == truth)
        self.seen[truth] += 1

    @property
    def accuracy(self) -> float:
        return self.correct / self.counted if self.counted else 0.0

    @property
    def baseline(self) -> float:
        return self.baseline_correct / self.counted if self.counted else 0.0

    def line(self, sent: int) -> str:
        recent = sum(self.recent) / len(self.recent) if self.recent else 0.0
        ahead = self.accuracy - self.baseline
        return (f"  {sent:5d} sent  {self.counted:5d} scored   accuracy {self.accuracy:.3f}"
                f"   last 100 {recent:.3f}   majority {self.baseline:.3f}   ahead by {ahead:+.3f}")


@dataclass(frozen=True)
class Options:
    rate: float
    limit: int
    poison: float
    flip_labels: bool


def rows() -> list[tuple[dict[str, float], bool]]:
    return [(dict(x), bool(y)) for x, y in datasets.Phishing()]


def event(run: str, index: int, x: dict[str, float]) -> dict[str, Any]:
    return {"event_id": f"{run}-{index:05d}", "entity_id": f"site-{index:05d}",
            "occurred_at": datetime.now(UTC).isoformat(), **x}


def broken(body: dict[str, Any]) -> dict[str, Any]:
    """What a sensor sends that lost its calibration: values out of range and of the wrong type."""
    return {**body, "event_id": f"{body['event_id']}-b", "https": 100.0, "long_url": "n/a"}


class Replay:
    """One replay: a producer of events and labels, a consumer of predictions, a score."""

    def __init__(self, credentials: Credentials, options: Options) -> None:
        self.options = options
        self.run = f"phishing-{datetime.now(UTC):%Y%m%d%H%M%S}"
        self.score = Score()
        self.all_scored = asyncio.Event()
        self.rest = httpx.AsyncClient(base_url=credentials.rest, timeout=30,
                                      headers={"authorization": credentials.authorization})
        bootstrap = credentials.kafka
        self.producer = AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True, acks="all")
        self.consumer = AIOKafkaConsumer(f"lepton-predictions-{PIPELINE}", bootstrap_servers=bootstrap,
                                         auto_offset_reset="latest", isolation_level="read_committed")

    async def __aenter__(self) -> "Replay":
        await self._apply()
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

    async def _apply(self) -> None:
        spec = (Path(__file__).parent / "pipeline.yaml").read_text()
        answer = await self.rest.post("/v1/pipelines", content=spec, headers={"content-type": "application/yaml"})
        if answer.is_error:
            raise SystemExit(f"the pipeline was refused: {answer.text}")

    async def champion(self) -> int:
        answer = await self.rest.get(f"/v1/models/{PIPELINE}")
        return int(answer.json().get("champion") or 0) if answer.is_success else 0

    async def ready_champion(self) -> int:
        """Version that a predictor reports it serves; 0 while none does."""
        answer = await self.rest.get("/v1/instances")
        answer.raise_for_status()
        served = [model["version"] for instance in answer.json() for model in instance.get("models", [])
                  if model["model"] == PIPELINE]
        return max((int(version) for version in served), default=0)

    async def send(self, indexed: list[tuple[int, dict[str, float], bool]], paced: bool) -> None:
        """Send events; each label follows LABEL_DELAY_EVENTS events later, the rest at the end."""
        waiting: deque[tuple[str, bool]] = deque()
        started = time.monotonic()
        for count, (index, x, y) in enumerate(indexed, start=1):
            body = event(self.run, index, x)
            await self._produce(body, SOURCE)
            if self._is_poisoned(index):
                await self._produce(broken(body), BROKEN_SOURCE)
            label = y != self.options.flip_labels
            self.score.label(body["event_id"], label)
            waiting.append((body["event_id"], label))
            if len(waiting) > LABEL_DELAY_EVENTS:
                await self._label(*waiting.popleft())
            if paced:
                await asyncio.sleep(max(0.0, started + count / self.options.rate - time.monotonic()))
                if count % 100 == 0:
                    print(self.score.line(count), flush=True)
        for event_id, label in waiting:
            await self._label(event_id, label)
        await self.producer.flush()

    def _is_poisoned(self, index: int) -> bool:
        return (index * 7919) % 100 < self.options.poison * 100

    async def _produce(self, body: dict[str, Any], source: str) -> None:
        await self.producer.send(f"lepton-events-{PIPELINE}", json.dumps(body).encode(),
                                 key=str(body["entity_id"]).encode(),
                                 headers=[("content-type", b"application/json"), ("ce_source", source.encode())])

    async def _label(self, event_id: str, label: bool) -> None:
        body = {"event_id": event_id, "entity": event_id.replace(self.run, "site"), "label": label}
        await self.producer.send(f"lepton-labels-{PIPELINE}", json.dumps(body).encode(), key=event_id.encode())

    async def read_predictions(self) -> None:
        async for record in self.consumer:
            served = predictions_pb2.PredictionServed.FromString(record.value)
            if served.event_id.startswith(self.run):
                self.score.prediction(served.event_id, served.label == "true")
                if not self.score.labels:
                    self.all_scored.set()

    async def settle(self, timeout_s: float = 15.0) -> None:
        """Wait for the predictions still under way, until none is missing or `timeout_s` have passed."""
        self.all_scored.clear()
        if self.score.labels:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.all_scored.wait(), timeout_s)


async def replay(options: Options) -> int:
    started = time.monotonic()
    stream = [(index, x, y) for index, (x, y) in enumerate(rows())]
    async with Replay(resolve(), options) as run:
        before = await run.champion()
        if not before:
            first, stream = stream[:FIRST_BATCH], stream[FIRST_BATCH:]
            print(f"no champion yet: {len(first)} labelled events to learn from …", flush=True)
            await run.send(first, paced=False)
            run.score.labels.clear()
            print(f"  trained, gated, signed, published and loaded in {await first_champion(run, started):.1f} s")
        elif not (options.poison or options.flip_labels):
            print(f"champion is version {before}: it has learnt from this stream before, so its score is flattered")
        stream = stream[: options.limit] if options.limit else stream
        print(f"replaying {len(stream)} events at {options.rate:g}/s, labels {LABEL_DELAY_EVENTS} events later")
        reader = asyncio.create_task(run.read_predictions())
        await run.send(stream, paced=True)
        await run.settle()
        reader.cancel()
        print(run.score.line(len(stream)))
        if not run.score.counted:
            print("no prediction came back: see `lepton status` and `lepton incidents`", file=sys.stderr)
            return 1
    return 0


async def first_champion(run: Replay, started: float) -> float:
    deadline = time.monotonic() + 120
    while not await run.ready_champion():
        if time.monotonic() > deadline:
            raise SystemExit("no model was published within 120 s: see `lepton status` and the trainer's log")
        await asyncio.sleep(0.5)
    return time.monotonic() - started


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=50.0, help="events a second (default 50)")
    parser.add_argument("--limit", type=int, default=0, help="events after the first champion (default: all)")
    parser.add_argument("--poison", type=float, default=0.0, help="share of events doubled by a broken source")
    parser.add_argument("--flip-labels", action="store_true", help="invert every label")
    given = parser.parse_args()
    # A topic made a moment ago has no leader yet everywhere; the client retries, and its lines would only alarm.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    return asyncio.run(replay(Options(given.rate, given.limit, given.poison, given.flip_labels)))


if __name__ == "__main__":
    sys.exit(main())
