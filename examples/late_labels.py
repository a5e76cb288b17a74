"""How rows whose labels come later go through a running Lepton: some to learn from, then others to answer first.

Events and labels go to Kafka as any producer would send them; answers are read from Kafka as any consumer would. Every
answer counted was given before the event's label was sent.
"""

import asyncio
import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import httpx
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from lepton.contracts.pb import predictions_pb2
from lepton_ai._credentials import Credentials, resolve

TOGETHER = 100
"""Events sent before their answers are read and their labels told."""
PUBLISHED_WITHIN_S = 180.0


class Row(Protocol):
    """An event, and what becomes of it."""

    @property
    def answer(self) -> str:
        """The class, as the platform writes it."""

    def event_id(self, run: str) -> str: ...

    def event(self, run: str) -> dict[str, Any]: ...

    def label(self, run: str) -> dict[str, Any]: ...


@dataclass
class Score:
    """What was answered to events whose label was still to come."""

    waiting: dict[str, str] = field(default_factory=dict)
    counted: int = 0
    mistakes: Counter[tuple[str, str]] = field(default_factory=Counter)

    def prediction(self, event_id: str, label: str) -> None:
        truth = self.waiting.pop(event_id, None)
        if truth is not None:
            self.counted += 1
            if label != truth:
                self.mistakes[truth, label] += 1

    def line(self) -> str:
        share = 1 - self.mistakes.total() / self.counted if self.counted else 0.0
        told = ", ".join(f"{count} × {truth} as {label}" for (truth, label), count in sorted(self.mistakes.items()))
        return f"  {self.counted:4d} answered   accuracy {share:.4f}" + (f"   ({told})" if told else "")


class Replay:
    """One replay of `example`, the folder of a Pipeline of the same name: a producer, a consumer of answers, a score.
    """

    def __init__(self, credentials: Credentials, example: str, source: str) -> None:
        self.run = f"{example}-{datetime.now(UTC):%Y%m%d%H%M%S}"
        self.score = Score()
        self._pipeline, self._source = example, source.encode()
        self._rest = httpx.AsyncClient(base_url=credentials.rest, timeout=30,
                                       headers={"authorization": credentials.authorization})
        self._producer = AIOKafkaProducer(bootstrap_servers=credentials.kafka, enable_idempotence=True, acks="all")
        # From the beginning: a topic made a moment ago may be found late, and its newest end would lie behind answers.
        self._consumer = AIOKafkaConsumer(f"lepton-predictions-{example}", bootstrap_servers=credentials.kafka,
                                          auto_offset_reset="earliest", isolation_level="read_committed",
                                          metadata_max_age_ms=2000)

    async def __aenter__(self) -> "Replay":
        spec = (Path(__file__).parent / self._pipeline / "pipeline.yaml").read_text()
        answer = await self._rest.post("/v1/pipelines", content=spec, headers={"content-type": "application/yaml"})
        if answer.is_error:
            raise SystemExit(f"the pipeline was refused: {answer.text}")
        await self._producer.start()
        await self._consumer.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._producer.stop()
        await self._consumer.stop()
        await self._rest.aclose()

    async def send(self, rows: Sequence[Row]) -> None:
        for one in rows:
            await self._produce("events", one, one.event(self.run))
        await self._producer.flush()

    async def tell(self, rows: Sequence[Row]) -> None:
        """What became of them."""
        for one in rows:
            await self._produce("labels", one, one.label(self.run))
        await self._producer.flush()

    async def answered(self, rows: Sequence[Row], timeout_s: float = 15.0) -> None:
        """Send rows and read what the model says of them, until none is missing or `timeout_s` have passed."""
        self.score.waiting = {one.event_id(self.run): one.answer for one in rows}
        await self.send(rows)
        deadline = time.monotonic() + timeout_s
        while self.score.waiting and time.monotonic() < deadline:
            for records in (await self._consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    served = predictions_pb2.PredictionServed.FromString(record.value)
                    self.score.prediction(served.event_id, served.label)

    async def served(self) -> bool:
        """Whether a predictor answers for this model."""
        answer = await self._rest.get("/v1/instances")
        answer.raise_for_status()
        return any(model["model"] == self._pipeline for instance in answer.json()
                   for model in instance.get("models", []))

    async def _produce(self, kind: str, one: Row, body: dict[str, Any]) -> None:
        await self._producer.send(f"lepton-{kind}-{self._pipeline}", json.dumps(body).encode(),
                                  key=one.event_id(self.run).encode(),
                                  headers=[("content-type", b"application/json"), ("ce_source", self._source)])


async def replay(example: str, source: str, first: Sequence[Row], rest: Sequence[Row]) -> int:
    """Let a model learn from `first` and answer `rest`, printing how well; the exit code."""
    async with Replay(resolve(), example, source) as run:
        if await run.served():
            print("a model is served already: it may have seen these rows before, so its score is flattered")
        print(f"{len(first)} labelled events to learn from …", flush=True)
        started = time.monotonic()
        await run.send(first)
        await run.tell(first)
        while not await run.served():
            if time.monotonic() > started + PUBLISHED_WITHIN_S:
                raise SystemExit(f"no model was published within {PUBLISHED_WITHIN_S:.0f} s: see `lepton status` and "
                                 "the trainer's log")
            await asyncio.sleep(0.5)
        print(f"  a model is served after {time.monotonic() - started:.1f} s; now {len(rest)} events it has never seen",
              flush=True)
        for begin in range(0, len(rest), TOGETHER):
            some = rest[begin:begin + TOGETHER]
            await run.answered(some)
            await run.tell(some)
            print(run.score.line(), flush=True)
        if not run.score.counted:
            print("no answer came back: see `lepton status` and `lepton incidents`", file=sys.stderr)
            return 1
    return 0


def main(example: str, source: str, first: Sequence[Row], rest: Sequence[Row]) -> int:
    # A topic made a moment ago has no leader yet everywhere; the client retries, and its lines would only alarm.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    return asyncio.run(replay(example, source, first, rest))
