"""The trainer's own cost: an epoch beside a bare torch loop of the same network, and rows read from segments.

    python -m tests.bench.bench_trainer [--rows 100000] [--rounds 5]

Both loops teach the same layers on the same rows in the same batches, in turns in one process with one thread; the
median of the rounds counts. Segments are read from memory: what a database takes to hand them over is its own.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from lepton.contracts import features, pipeline
from lepton.contracts.modelling.blocks import Parameters
from services.trainer.core import loop
from services.trainer.core.dataset import features_of, join, outcomes_of
from services.trainer.core.networks import zoo
from services.trainer.core.preparing.layout import Layout, Span
from tests.bench.results import machine, write

COLUMNS, CLASSES, HIDDEN, BATCH = 30, 3, (64, 32), 64
SEGMENT_ROWS = 50_000
PIPELINE = pipeline.parse(
    "apiVersion: lepton/v1\nkind: Pipeline\nmetadata: {name: bench}\nevents:\n  fields:\n"
    + "".join(f"    f{place}: {{type: float}}\n" for place in range(10)) + "  label: {field: y, type: float}\n")


def epochs(rows: int, rounds: int) -> dict[str, float]:
    """Seconds of an epoch with validation, ours and bare."""
    chance = torch.Generator().manual_seed(1)
    inputs = torch.randn((rows, COLUMNS), generator=chance)
    truth = (inputs[:, :CLASSES] * 2).argmax(dim=1)
    cut = rows * 9 // 10
    parameters = Parameters(epochs=1, hidden=HIDDEN, batch_size=BATCH)
    taught, judged = loop.Rows(inputs[:cut], truth[:cut]), loop.Rows(inputs[cut:], truth[cut:])
    layout = Layout(tuple(Span(f"f{place}", "number", place, 1) for place in range(COLUMNS)))

    def ours() -> None:
        network = zoo.build("mlp", "classification", layout, CLASSES, parameters)
        loop.run(loop.Work(network, parameters, taught, judged), [])

    def bare() -> None:
        sizes = (COLUMNS, *HIDDEN)
        layers: list[nn.Module] = []
        for one, other in itertools.pairwise(sizes):
            layers += [nn.Linear(one, other), nn.ReLU()]
        network = nn.Sequential(*layers, nn.Linear(sizes[-1], CLASSES))
        optimizer = torch.optim.Adam(network.parameters(), lr=parameters.learning_rate)
        network.train()
        for batch in torch.split(torch.randperm(cut), BATCH):
            optimizer.zero_grad()
            torch.autograd.backward(nn.functional.cross_entropy(network(inputs[batch]), truth[batch]))
            optimizer.step()
        network.eval()
        with torch.no_grad():
            nn.functional.cross_entropy(network(inputs[cut:]), truth[cut:]).item()

    for warm in (ours, bare):
        warm()
    took: dict[Callable[[], None], list[float]] = {ours: [], bare: []}
    for _ in range(rounds):
        for one, seconds in took.items():
            begun = time.perf_counter()
            one()
            seconds.append(time.perf_counter() - begun)
    mine, plain = (statistics.median(seconds) for seconds in took.values())
    return {"rows": rows, "ours_s": mine, "bare_s": plain, "ratio": mine / plain}


def reading(rows: int, rounds: int) -> dict[str, float]:
    """Labelled rows a second out of segments of features and outcomes, decoded, joined by event and in order."""
    stored = [_features(first, SEGMENT_ROWS) for first in range(0, rows, SEGMENT_ROWS)]
    # In another order than the rows: one is found for each by its event, not by its place.
    told = [_outcomes(first, SEGMENT_ROWS) for first in reversed(range(0, rows, SEGMENT_ROWS))]
    fields = {name: pa.float64() for name in PIPELINE.fields}
    seconds = []
    for _ in range(rounds):
        begun = time.perf_counter()
        table = join(features_of(stored, list(fields)), outcomes_of(told), fields)
        seconds.append(time.perf_counter() - begun)
        if table.num_rows != len(stored) * SEGMENT_ROWS:
            raise RuntimeError(f"{table.num_rows} rows came out of {len(stored) * SEGMENT_ROWS}")
    return {"rows": len(stored) * SEGMENT_ROWS, "rows_per_s": len(stored) * SEGMENT_ROWS / statistics.median(seconds)}


def _times(first: int, count: int) -> list[datetime]:
    return [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(milliseconds=number) for number in range(first, first + count)]


def _features(first: int, count: int) -> tuple[int, bytes]:
    chance = np.random.default_rng(first)
    known = {
        features.EVENT_ID: pa.array([f"event-{number:08d}" for number in range(first, first + count)]),
        features.ENTITY: pa.array([f"entity-{number % 1000}" for number in range(first, first + count)]),
        features.SOURCE: pa.array(["bench"] * count),
        features.OCCURRED_AT: pa.array(_times(first, count), pa.timestamp("us", tz="UTC")),
        features.SOURCE_OFFSET: pa.array(range(first, first + count), pa.int64()),
        **{name: pa.array(chance.normal(size=count)) for name in PIPELINE.fields}}
    schema = features.features_schema(PIPELINE)
    columns = [known[one.name] if one.name in known else pa.nulls(count, one.type) for one in schema]
    return 0, features.encode_batch(pa.RecordBatch.from_arrays(columns, schema=schema))


def _outcomes(first: int, count: int) -> tuple[int, bytes]:
    return 0, features.encode_table(pa.table({
        "event_id": [f"event-{number:08d}" for number in range(first, first + count)],
        "label": np.arange(first, first + count, dtype=np.float64),
        "label_time": pa.array(_times(first, count), pa.timestamp("us", tz="UTC"))}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(f"Trainer ({machine()})")
    learnt = epochs(given.rows, given.rounds)
    print(f"an epoch over {given.rows} rows: {learnt['ours_s']:.2f} s, bare torch {learnt['bare_s']:.2f} s, "
          f"{learnt['ratio']:.2f} of it")
    read = reading(given.rows * 10, given.rounds)
    print(f"{read['rows']:.0f} labelled rows of ten numbers from segments: {read['rows_per_s']:,.0f} rows/s")
    write("trainer", {"machine": machine(), "epoch": learnt, "reading": read})


if __name__ == "__main__":
    main()
