"""The stream learner beside river's models: accuracy before the label is seen, in river's order, and rows a second.

    python -m tests.bench streaming
    python -m tests.bench platform              the same through a stack of its own, beside the champion it serves
    python -m tests.bench.bench_streaming --through-platform [--rate 20]      ... through the stack that is up

Replay through `Pupil`, the whole of what a stream's process does with its records: Arrow batches and outcomes in, join
by event id, preparation, micro-batches of 64, prequential record. No broker and no database are measured here. The
speed is measured twice: with as many records handed over at a time as the trainer reads at once (500, about seven
features records with their outcomes), and with those of one micro-batch.
River's models see the same rows as dictionaries, one at a time, as river is used. CPU time, one thread each.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from aiokafka import AIOKafkaConsumer
from river import datasets, ensemble, forest, linear_model, neighbors, preprocessing, tree

from examples.phishing import replay
from lepton.contracts import codec, features, names, pipeline, topics
from lepton.contracts.pb.outcomes_pb2 import Outcome
from lepton.contracts.pb.telemetry_pb2 import Telemetry
from lepton.contracts.topics import Topic
from lepton_ai._credentials import resolve
from services.trainer.core.streaming.pupil import FEATURES, MICRO_BATCH, OUTCOMES, Given, Pupil
from tests.bench import results

SEEDS = range(5)
BARS = {"Phishing": 0.914, "Bananas": 0.889}
FASTER = 10.0
READ_AT_ONCE = 500
"""Records, as `services/trainer/edge/streams.py` reads them."""
START = datetime(2026, 1, 1, tzinfo=UTC)
Stream = list[tuple[dict[str, float], bool]]

PEERS: dict[str, Callable[[], Any]] = {
    "logistic regression": lambda: preprocessing.StandardScaler() | linear_model.LogisticRegression(),
    "k nearest neighbours": lambda: preprocessing.StandardScaler() | neighbors.KNNClassifier(),
    "Hoeffding tree": tree.HoeffdingTreeClassifier,
    "aggregated Mondrian forest": lambda: forest.AMFClassifier(seed=1),
    "adaptive random forest": lambda: forest.ARFClassifier(seed=1),
    "leveraging bagging": lambda: ensemble.LeveragingBaggingClassifier(tree.HoeffdingTreeClassifier(), seed=1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--through-platform", action="store_true", help="Phishing, over the log, by a stack that is up")
    parser.add_argument("--rate", type=float, default=20.0, help="events a second through the platform")
    given = parser.parse_args()
    if given.through_platform:
        figures = asyncio.run(through_platform(given.rate))
        print(f"written to {results.write('streaming_platform', {'machine': results.machine(), **figures})}")
        return
    sources: dict[str, Callable[[], Any]] = {"Phishing": datasets.Phishing, "Bananas": datasets.Bananas}
    figures = {name: measured(name, [(dict(row), bool(label)) for row, label in source()])
               for name, source in sources.items()}
    print(f"written to {results.write('streaming', {'machine': results.machine(), **figures})}")


def measured(name: str, rows: Stream) -> dict[str, Any]:
    """Figures of one stream; the learner and river's best by accuracy take turns for the speed."""
    peers = {peer: river(build, rows) for peer, build in PEERS.items()}
    best = max(peers, key=lambda peer: peers[peer][0])
    # The first is the one that said it is the best.
    found, ours, singly, theirs = [], [], [], [peers[best][1]]
    records = records_of(name, rows)
    every = [one for some in records for one in some]
    read = [every[first:first + READ_AT_ONCE] for first in range(0, len(every), READ_AT_ONCE)]
    for seed in SEEDS:
        accuracy, speed, baseline = replayed(spec_of(name, rows, seed), read)
        found.append(accuracy)
        ours.append(speed)
        singly.append(replayed(spec_of(name, rows, seed), records)[1])
        if seed < 2:
            theirs.append(river(PEERS[best], rows)[1])
    mean, peers_speed = sum(found) / len(found), statistics.median(theirs)
    ratio, single = statistics.median(ours) / peers_speed, statistics.median(singly) / peers_speed
    print(f"{name}: accuracy {mean:.4f} of 5 seeds ({min(found):.4f} to {max(found):.4f}; bar {BARS[name]}, "
          f"{'reached' if mean >= BARS[name] else 'MISSED'}), majority {baseline:.4f}")
    for peer, (accuracy, speed) in peers.items():
        print(f"  river {peer}: {accuracy:.4f}, {speed:,.0f} rows/s")
    print(f"  speed: {statistics.median(ours):,.0f} rows/s, {ratio:.1f} x river's best by accuracy ({best}; "
          f"aim {FASTER:g}, {'reached' if ratio >= FASTER else 'MISSED'}); "
          f"a micro-batch at a time {statistics.median(singly):,.0f} rows/s, {single:.1f} x", flush=True)
    return {"accuracy": mean, "seeds": found, "majority": baseline, "rows_per_s": ours, "best_peer": best,
            "best_peer_rows_per_s": theirs, "ratio": ratio, "singly_rows_per_s": singly, "singly_ratio": single,
            "river": {peer: {"accuracy": accuracy, "rows_per_s": speed} for peer, (accuracy, speed) in peers.items()}}


def river(build: Callable[[], Any], rows: Stream) -> tuple[float, float]:
    """Accuracy and rows a second."""
    model, right, began = build(), 0, time.process_time()
    for row, label in rows:
        right += model.predict_one(row) == label
        model.learn_one(row, label)
    return right / len(rows), len(rows) / (time.process_time() - began)


def replayed(spec: pipeline.Pipeline, records: list[list[Given]]) -> tuple[float, float, float]:
    """Accuracy, rows a second and the majority's accuracy."""
    pupil, began = Pupil(spec, 1), time.process_time()
    for some in records:
        report = pupil.take(some)
    elapsed = time.process_time() - began
    return report.figures["accuracy"], report.seen / elapsed, report.figures["baseline_accuracy"]


def spec_of(name: str, rows: Stream, seed: int) -> pipeline.Pipeline:
    fields = "\n".join(f"    {field}: {{type: float}}" for field in named(rows[0][0]))
    return pipeline.parse(f"""
apiVersion: lepton/v1
kind: Pipeline
metadata: {{name: {name.lower()}}}
events:
  partitions: 1
  fields:
{fields}
  label: {{field: truth, type: bool}}
model:
  family: logistic_regression
  parameters: {{seed: {seed}}}
  train: {{every_rows: 0, stream: {{candidate_rows: 10000000}}}}
""")


def named(row: dict[str, float]) -> list[str]:
    return [f"x{place}" for place in range(len(row))]


def records_of(name: str, rows: Stream) -> list[list[Given]]:
    """The rows as ingest writes them: a features record of 64 rows and an outcome each."""
    schema = features.features_schema(spec_of(name, rows, 0))
    found = []
    for first in range(0, len(rows), MICRO_BATCH):
        some = rows[first:first + MICRO_BATCH]
        ids = [f"event-{first + place:06d}" for place in range(len(some))]
        times = [START + timedelta(seconds=first + place) for place in range(len(some))]
        ours = {features.EVENT_ID: ids, features.ENTITY: ids, features.OCCURRED_AT: times,
                features.SOURCE: ["bench"] * len(some), features.SOURCE_OFFSET: list(range(first, first + len(some))),
                features.OUTLIERS: [[]] * len(some)}
        values = {field: [float(list(row.values())[place]) for row, _ in some]
                  for place, field in enumerate(named(rows[0][0]))}
        columns = {**ours, **values}
        batch = pa.RecordBatch.from_arrays(
            [pa.array(columns[field.name], field.type) if field.name in columns else pa.nulls(len(some), field.type)
             for field in schema], schema=schema)
        outcomes = []
        for place, (_, label) in enumerate(some):
            outcome = Outcome(event_id=ids[place], entity=ids[place], flag=label, with_event=True)
            outcome.label_time.FromDatetime(times[place])
            outcomes.append(Given(OUTCOMES, 0, first + place, codec.encode(Topic.OUTCOMES, outcome)))
        found.append([Given(FEATURES, 0, first, features.encode_batch(batch)), *outcomes])
    return found


class Streamed(replay.Replay):
    """The example's replay for a pipeline that learns its stream, in one partition: so rows keep river's order."""

    async def apply(self, seed: int) -> None:
        text = (Path(replay.__file__).parent / "pipeline.yaml").read_text()
        for old, new in (("partitions: 4", "partitions: 1"), ("seed: 7", f"seed: {seed}"),
                         ("warm_start: true", "warm_start: true, stream: {candidate_rows: 250}")):
            if old not in text:
                raise SystemExit(f"the example's pipeline says {old} no more")
            text = text.replace(old, new)
        answer = await self.rest.post("/v1/pipelines", content=text, headers={"content-type": "application/yaml"})
        if answer.is_error:
            raise SystemExit(f"the pipeline was refused: {answer.text}")

    async def _apply(self) -> None:
        await self.apply(SEEDS[0])


class Told:
    """The trainer's figures of the stream, as its heartbeats tell them."""

    def __init__(self, bootstrap: str) -> None:
        self.figures: dict[str, float] = {}
        self._consumer = AIOKafkaConsumer(topics.name(Topic.TELEMETRY), bootstrap_servers=bootstrap,
                                          auto_offset_reset="latest")

    async def read(self) -> None:
        await self._consumer.start()
        try:
            async for record in self._consumer:
                for one in Telemetry.FromString(record.value).measurements:
                    if one.name == names.STREAM_FIGURE and one.attributes.get("pipeline") == replay.PIPELINE:
                        self.figures[one.attributes["figure"]] = one.value
        finally:
            await self._consumer.stop()

    async def whole(self, rows: int, timeout_s: float = 300.0) -> dict[str, float]:
        """The figures once all rows are learnt or left out."""
        deadline = time.monotonic() + timeout_s
        while self.figures.get("rows", 0) + self.figures.get("left_out", 0) < rows:
            if time.monotonic() > deadline:
                raise SystemExit(f"not all of {rows} rows were learnt within {timeout_s:g} s: {self.figures}")
            await asyncio.sleep(0.5)
        return dict(self.figures)


async def through_platform(rate: float) -> dict[str, Any]:
    """Phishing over the log and back: the stream learner's figures, and the served champion's on the same events.

    The first seed learns while events come in, each label `replay.LABEL_DELAY_EVENTS` events after its own; for the
    others the pipeline is applied anew with another seed, at which the trainer learns both topics from their beginning.
    """
    rows = [(number, row, label) for number, (row, label) in enumerate(replay.rows())]
    credentials = resolve()
    run = Streamed(credentials, replay.Options(rate, 0, 0.0, False))
    async with run, asyncio.TaskGroup() as tasks:
        if await run.champion():
            raise SystemExit("this stack has learnt phishing before: bring up one with another --home")
        told = Told(credentials.kafka)
        readers = [tasks.create_task(told.read()), tasks.create_task(run.read_predictions())]
        # Until there is somebody to serve there is no prediction to count.
        await run.send(rows[:replay.FIRST_BATCH], paced=False)
        print(f"  a champion is served after {await replay.first_champion(run, time.monotonic()):.0f} s", flush=True)
        run.score.labels.clear()
        await run.send(rows[replay.FIRST_BATCH:], paced=True)
        await run.settle(60)
        learnt = [await told.whole(len(rows))]
        for seed in SEEDS[1:]:
            told.figures.clear()
            await run.apply(seed)
            learnt.append(await told.whole(len(rows)))
            print(f"  seed {seed}: {learnt[-1]['accuracy']:.4f}", flush=True)
        for reader in readers:
            reader.cancel()
        score = run.score
    mean = statistics.fmean(one["accuracy"] for one in learnt)
    print(f"Phishing through the platform, {len(rows)} rows at {rate:g}/s: stream learner {mean:.4f} of {len(learnt)} "
          f"seeds ({min(one['accuracy'] for one in learnt):.4f} to {max(one['accuracy'] for one in learnt):.4f}; bar "
          f"{BARS['Phishing']}, {'reached' if mean >= BARS['Phishing'] else 'MISSED'}), majority "
          f"{learnt[0]['baseline_accuracy']:.4f}, left out {learnt[0]['left_out']:g}")
    print(f"  served champion, on the {score.counted} events that came after there was one: {score.accuracy:.4f}, "
          f"majority there {score.baseline:.4f}", flush=True)
    return {"accuracy": mean, "seeds": [one["accuracy"] for one in learnt], "rows": len(rows), "rate": rate,
            "majority": learnt[0]["baseline_accuracy"], "left_out": learnt[0]["left_out"],
            "served": {"accuracy": score.accuracy, "majority": score.baseline, "events": score.counted}}


if __name__ == "__main__":
    main()
