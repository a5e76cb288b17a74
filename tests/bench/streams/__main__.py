"""The stream learner through the whole platform, beside the champion it makes and the majority, of 5 seeds.

    python -m tests.bench platform                          through a stack of its own
    python -m tests.bench.streams [--seconds 150]           through the stack that is up

Phishing and Bananas in river's order, a pipeline each, at the same time: events and late labels over Kafka, ingest,
features and outcomes, and the trainer's stream learner, whose figures its heartbeats tell. Each label follows its event
by 20 others. The first rows come at once, for a first champion to be made of; the others are spread evenly over the
time, and what the predictor answers to them then is counted beside. So it is with the first seed
(`model.parameters.seed`); for the others the pipelines are applied anew, at which the trainer learns both topics from
their beginning.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import logging
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from river import datasets

from examples.phishing.replay import FIRST_BATCH, LABEL_DELAY_EVENTS, Score
from lepton.contracts import names, topics
from lepton.contracts.pb import predictions_pb2
from lepton.contracts.pb.telemetry_pb2 import Telemetry
from lepton.contracts.topics import Topic
from lepton_ai._credentials import Credentials, resolve
from tests.bench import results
from tests.bench.bench_streaming import BARS, SEEDS, Stream, named
from tests.harness.wait import apoll_until

CANDIDATES = {"Phishing": 250, "Bananas": 1000}
"""Rows between two candidates of the stream, while it comes."""
NEVER = 10_000_000
WAIT_S = 600.0
ANSWERS_S = 30.0
SPEC = """
apiVersion: lepton/v1
kind: Pipeline
metadata: {{name: {pipeline}}}
events:
  id: event_id
  entity: entity_id
  time: occurred_at
  partitions: 1
  fields:
{fields}
  label: {{field: truth, type: bool, arrives: later}}
model:
  family: logistic_regression
  parameters: {{epochs: 40, learning_rate: 0.05, seed: {seed}}}
  train: {{first_rows: 200, every_rows: 0, stream: {{candidate_rows: {candidates}}}}}
gate: {{metric: accuracy, at_least: 0.3, beat_champion_by: -0.02, held_out: 0.2}}
serve: {{rollout: immediate}}
"""


@dataclass
class Lesson:
    """One stream: its pipeline, and what is known of it."""

    stream: str
    rows: Stream
    served: Score = field(default_factory=Score)
    by_version: dict[int, list[int]] = field(default_factory=dict)
    """Of each version that answered: how many of those events, and to how many the right answer."""
    figures: dict[str, float] = field(default_factory=dict)
    """The learner's, as last told."""
    learnt: list[dict[str, float]] = field(default_factory=list)
    """Those once all rows were learnt, of each seed."""
    waiting: list[tuple[str, bool]] = field(default_factory=list)
    """Events whose labels are not sent yet."""

    @property
    def pipeline(self) -> str:
        return self.stream.lower()

    @property
    def whole(self) -> bool:
        """Whether what was told last is of all rows, and of another seed than what was kept last: no two seeds have
        the same loss to the last digit."""
        if self.learnt and self.figures["log_loss"] == self.learnt[-1]["log_loss"]:
            return False
        return self.figures.get("rows", 0) + self.figures.get("left_out", 0) >= len(self.rows)

    def spec(self, seed: int) -> str:
        fields = "\n".join(f"    {one}: {{type: float}}" for one in named(self.rows[0][0]))
        return SPEC.format(pipeline=self.pipeline, fields=fields, seed=seed,
                           candidates=NEVER if seed else CANDIDATES[self.stream])


class Platform:
    """The stack as those who use it see it: REST, and the log."""

    def __init__(self, credentials: Credentials, lessons: list[Lesson]) -> None:
        self._lessons = {one.pipeline: one for one in lessons}
        self._run = f"{datetime.now(UTC):%H%M%S}"
        self._rest = httpx.AsyncClient(base_url=credentials.rest, timeout=60,
                                       headers={"authorization": credentials.authorization})
        self._producer = AIOKafkaProducer(bootstrap_servers=credentials.kafka, enable_idempotence=True, acks="all")
        self._predicted = {topics.name(Topic.PREDICTIONS, one.pipeline): one for one in lessons}
        self._predictions = AIOKafkaConsumer(*self._predicted, bootstrap_servers=credentials.kafka,
                                             auto_offset_reset="latest", isolation_level="read_committed")
        self._telemetry = AIOKafkaConsumer(topics.name(Topic.TELEMETRY), bootstrap_servers=credentials.kafka,
                                           auto_offset_reset="latest")

    async def __aenter__(self) -> "Platform":
        for lesson in self._lessons.values():
            known = await self._rest.get(f"/v1/models/{lesson.pipeline}")
            if known.is_success and known.json().get("champion"):
                raise SystemExit(f"this stack has learnt {lesson.pipeline} before: bring up one with another --home")
        await self.apply(SEEDS[0])
        await self._producer.start()
        for consumer in (self._predictions, self._telemetry):
            await consumer.start()
            for partition in consumer.assignment():
                # It must be fixed before the first event.
                await consumer.position(partition)
        return self

    async def __aexit__(self, *exc: object) -> None:
        for one in (self._producer, self._predictions, self._telemetry):
            await one.stop()
        await self._rest.aclose()

    async def apply(self, seed: int) -> None:
        for lesson in self._lessons.values():
            answer = await self._rest.post("/v1/pipelines", content=lesson.spec(seed),
                                           headers={"content-type": "application/yaml"})
            if answer.is_error:
                raise SystemExit(f"a pipeline was refused: {answer.text}")

    async def read_predictions(self) -> None:
        async for record in self._predictions:
            served = predictions_pb2.PredictionServed.FromString(record.value)
            lesson, right = self._predicted[record.topic], served.label == "true"
            if served.event_id in lesson.served.labels:
                of_version = lesson.by_version.setdefault(served.version, [0, 0])
                of_version[0] += 1
                of_version[1] += lesson.served.labels[served.event_id] == right
            lesson.served.prediction(served.event_id, right)

    async def read_figures(self) -> None:
        async for record in self._telemetry:
            for one in Telemetry.FromString(record.value).measurements:
                lesson = self._lessons.get(one.attributes.get("pipeline", ""))
                if lesson is not None and one.name == names.STREAM_FIGURE:
                    lesson.figures[one.attributes["figure"]] = one.value

    async def send(self, lesson: Lesson, first: int, end: int, seconds: float) -> None:
        """Rows from `first` to `end` within so many seconds, each label `LABEL_DELAY_EVENTS` events after its own."""
        began = time.monotonic()
        for number, (row, label) in enumerate(itertools.islice(lesson.rows, first, end)):
            event_id = f"{self._run}-{lesson.pipeline}-{first + number:05d}"
            body = {"event_id": event_id, "entity_id": event_id, "occurred_at": datetime.now(UTC).isoformat(),
                    **dict(zip(named(row), row.values(), strict=True))}
            await self._producer.send(topics.name(Topic.EVENTS, lesson.pipeline), json.dumps(body).encode(),
                                      key=event_id.encode(), headers=[("content-type", b"application/json")])
            lesson.served.label(event_id, label)
            lesson.waiting.append((event_id, label))
            if len(lesson.waiting) > LABEL_DELAY_EVENTS:
                await self._label(lesson, *lesson.waiting.pop(0))
            await asyncio.sleep(max(0.0, began + seconds * number / (end - first) - time.monotonic()))
        if end == len(lesson.rows):
            for late in lesson.waiting:
                await self._label(lesson, *late)

    async def champions(self) -> float:
        """Seconds until a predictor serves one for each lesson."""
        began = time.monotonic()
        await apoll_until(self._all_served, "a champion of each pipeline", WAIT_S, 0.5)
        return time.monotonic() - began

    async def _all_served(self) -> bool:
        answer = await self._rest.get("/v1/instances")
        answer.raise_for_status()
        served = {model["model"] for one in answer.json() for model in one.get("models", []) if model["version"]}
        return served >= set(self._lessons)

    async def learnt(self) -> None:
        """Until all rows of all lessons are learnt or left out; then what is told of them is kept."""
        await apoll_until(self._all_learnt, "all rows learnt or left out", WAIT_S, 0.5)
        for one in self._lessons.values():
            one.learnt.append(dict(one.figures))

    async def answered(self) -> None:
        """Until the predictor's answers to all rows are read, if they come."""
        with contextlib.suppress(AssertionError):
            # How many there were is told in the end.
            await apoll_until(self._all_answered, "a prediction for each row", ANSWERS_S, 0.5)

    async def _all_learnt(self) -> bool:
        return all(one.whole for one in self._lessons.values())

    async def _all_answered(self) -> bool:
        return not any(one.served.labels for one in self._lessons.values())

    async def _label(self, lesson: Lesson, event_id: str, label: bool) -> None:
        body = {"event_id": event_id, "entity": event_id, "label": label}
        await self._producer.send(topics.name(Topic.LABELS, lesson.pipeline), json.dumps(body).encode(),
                                  key=event_id.encode())


async def replay(lessons: list[Lesson], seconds: float) -> float:
    """Fills in what the lessons are to tell; how long the first champions took."""
    async with Platform(resolve(), lessons) as platform, asyncio.TaskGroup() as tasks:
        readers = [tasks.create_task(platform.read_predictions()), tasks.create_task(platform.read_figures())]
        await asyncio.gather(*(platform.send(one, 0, FIRST_BATCH, 0.0) for one in lessons))
        took = await platform.champions()
        print(f"  a champion of each is served after {took:.0f} s", flush=True)
        for one in lessons:
            # Until there was somebody to serve there was no prediction to count.
            one.served, one.by_version = Score(), {}
        await asyncio.gather(*(platform.send(one, FIRST_BATCH, len(one.rows), seconds) for one in lessons))
        await platform.learnt()
        await platform.answered()
        for seed in SEEDS[1:]:
            await platform.apply(seed)
            await platform.learnt()
        for reader in readers:
            reader.cancel()
    return took


def told(lesson: Lesson) -> dict[str, Any]:
    """Figures of one stream; printed."""
    found = [one["accuracy"] for one in lesson.learnt]
    mean, bar, served = statistics.fmean(found), BARS[lesson.stream], lesson.served
    majority, left_out = lesson.learnt[0]["baseline_accuracy"], max(one["left_out"] for one in lesson.learnt)
    print(f"{lesson.stream}, {len(lesson.rows)} rows: stream learner {mean:.4f} of {len(found)} seeds "
          f"({min(found):.4f} to {max(found):.4f}; bar {bar}, {'reached' if mean >= bar else 'MISSED'}), "
          f"majority {majority:.4f}, left out {left_out:g}")
    print(f"  served champion, on the {served.counted} events since there was one: {served.accuracy:.4f}, majority "
          f"there {served.baseline:.4f}", flush=True)
    for version, (events, correct) in sorted(lesson.by_version.items()):
        print(f"    version {version}: {correct / events:.4f} of {events}", flush=True)
    return {"accuracy": mean, "seeds": found, "majority": majority, "rows": len(lesson.rows), "left_out": left_out,
            "served": {"accuracy": served.accuracy, "majority": served.baseline, "events": served.counted,
                       "by_version": {str(version): counts for version, counts in lesson.by_version.items()}}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=150.0, help="over which the rows after the first are spread")
    parser.add_argument("--rows", type=int, help="only so many of each stream: a try of it")
    given = parser.parse_args()
    # A topic made a moment ago has no leader yet everywhere; the client retries, and its lines would only alarm.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    sources: dict[str, Callable[[], Any]] = {"Phishing": datasets.Phishing, "Bananas": datasets.Bananas}
    streams = {name: [(dict(row), bool(label)) for row, label in itertools.islice(source(), given.rows)]
               for name, source in sources.items()}
    lessons = [Lesson(name, rows) for name, rows in streams.items()]
    took = asyncio.run(replay(lessons, given.seconds))
    figures = {one.stream: told(one) for one in lessons}
    about = {"machine": results.machine(), "seconds": given.seconds, "first_champions_s": took}
    print(f"written to {results.write('streaming_platform', {**about, **figures})}")


if __name__ == "__main__":
    main()
