"""The predictor beside an empty grpc.aio echo in the same run, and how many streamed rows it scores a second.

    python -m tests.bench.bench_predictor [--seconds 4] [--rows 200000]

Starts a broker, a database and a predictor of its own on loopback. Servers and load generator are processes of their
own that share the machine's cores; server CPU a request is measured too, since it does not depend on the generator.
"""

import argparse
import asyncio
import itertools
import json
import subprocess
import sys
import time
from typing import Any

import httpx
import numpy as np
import psutil

from lepton.contracts.pb import grpc_service_pb2 as oip
from tests.bench.results import machine, write
from tests.bench.wire.served import Place, echo, in_place, with_cpu
from tests.harness.onnx_models import Linear, OneTensor
from tests.harness.registry import Registry, specify
from tests.harness.wait import apoll_until

METHOD = "/inference.GRPCInferenceService/ModelInfer"
CLIENTS = (1, 16, 64)
ROUNDS = 2
FIELDS = {f"field_{number}": "float" for number in range(9)}
MODEL, PLAIN_MODEL = "bench", "bench-plain"
ROWS_A_RECORD = 250
PARTITIONS = 2


def one_row() -> bytes:
    """A row of a pipeline: one tensor a field."""
    request = oip.ModelInferRequest(model_name=MODEL, id="bench")
    for name in FIELDS:
        request.inputs.add(name=name, datatype="FP64", shape=[1])
        request.raw_input_contents.append(np.array([0.5]).tobytes())
    return request.SerializeToString()


def one_tensor() -> bytes:
    """A row as one tensor of 30 numbers, for an MLP of 30-64-64-2: what servers are usually compared by."""
    request = oip.ModelInferRequest(model_name=PLAIN_MODEL, id="bench")
    request.inputs.add(name="x", datatype="FP32", shape=[1, 30])
    request.raw_input_contents.append(np.ones(30, dtype="<f4").tobytes())
    return request.SerializeToString()


REQUESTS = {"one tensor of 30, MLP 30-64-64-2": one_tensor, f"{len(FIELDS)} fields, a tensor each": one_row}


def measure(address: str, server: psutil.Process, request: bytes, clients: int, seconds: float,
            key: str) -> dict[str, Any]:
    """What the load generator saw, and the server's CPU a request."""
    def _load() -> dict[str, Any]:
        command = [sys.executable, "-m", "tests.bench.load", address, METHOD, str(clients), str(seconds), key]
        done = subprocess.run(command, input=request, capture_output=True, check=True)
        seen: dict[str, Any] = json.loads(done.stdout)
        return seen

    return with_cpu(server, _load)


def unary(address: str, process: psutil.Process, key: str, seconds: float) -> list[dict[str, Any]]:
    """For each request and number of clients the better round of both servers, which take turns."""
    table = []
    with echo(sys.executable, "-m", "tests.bench.echo") as (echo_address, echo_process):
        for (kind, build), clients in itertools.product(REQUESTS.items(), CLIENTS):
            rounds: dict[str, list[dict[str, Any]]] = {"echo": [], "predictor": []}
            for _ in range(ROUNDS):
                rounds["echo"].append(measure(echo_address, echo_process, build(), clients, seconds, ""))
                rounds["predictor"].append(measure(address, process, build(), clients, seconds, key))
            best = {name: max(seen, key=lambda one: one["requests_per_s"]) for name, seen in rounds.items()}
            table.append({"request": kind, "clients": clients, **best,
                          "ratio": best["predictor"]["requests_per_s"] / best["echo"]["requests_per_s"],
                          "cpu_ratio": best["echo"]["cpu_us"] / best["predictor"]["cpu_us"]})
    return table


def scored(admin: str) -> float:
    """Streamed rows answered so far, as the predictor counts them."""
    lines = httpx.get(f"http://{admin}/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines
               if line.startswith("lepton_predictor_scored_rows_total"))


async def backlog(registry: Registry, rows: int) -> None:
    """Features that wait on their topic."""
    spec = specify(MODEL, FIELDS, partitions=PARTITIONS)
    await registry.create(MODEL, partitions=PARTITIONS)
    values = np.random.default_rng(7).random((ROWS_A_RECORD, len(FIELDS))).tolist()
    for record in range(rows // ROWS_A_RECORD):
        await registry.features(spec, [{"_event_id": f"{record}-{row}", **dict(zip(FIELDS, value, strict=True))}
                                       for row, value in enumerate(values)], partition=record % PARTITIONS)


async def streamed(admin: str, process: psutil.Process, registry: Registry, rows: int) -> dict[str, float]:
    """Rows a second from the first committed batch of a backlog to its end, and CPU a row."""
    await backlog(registry, rows)
    before = sum(process.cpu_times()[:2])
    await registry.announce_pipeline(MODEL, FIELDS, partitions=PARTITIONS)
    first = await apoll_until(lambda: asyncio.to_thread(scored, admin), "the first batch", 60, every_s=0.005)
    started = time.perf_counter()

    async def done() -> bool:
        return await asyncio.to_thread(scored, admin) >= rows

    await apoll_until(done, f"{rows} rows", 300, every_s=0.02)
    elapsed = time.perf_counter() - started
    return {"rows": rows, "rows_per_s": (rows - first) / elapsed,
            "cpu_us": (sum(process.cpu_times()[:2]) - before) / rows * 1e6}


async def run(place: Place, seconds: float, rows: int) -> dict[str, Any]:
    await place.registry.publish(MODEL, Linear(FIELDS, classes=("no", "yes")))
    await place.registry.publish(PLAIN_MODEL, OneTensor())
    with place.predictor() as (address, admin, process):
        table = await asyncio.to_thread(unary, address, process, place.key, seconds)
        rss_bytes = process.memory_info().rss
        stream = await streamed(admin, process, place.registry, rows)
    return {"machine": machine(), "unary": table, "rss_bytes": rss_bytes, "stream": stream}


def show(result: dict[str, Any]) -> None:
    print(f"\nSingle-row unary requests ({result['machine']}, shared with the load generator)")
    print("| request | clients | echo req/s (p99 ms) | predictor req/s (p99 ms) | ratio | echo CPU us | ours |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for row in result["unary"]:
        echo, ours = row["echo"], row["predictor"]
        print(f"| {row['request']} | {row['clients']} | {echo['requests_per_s']:.0f} ({echo['p99_ms']:.1f}) "
              f"| {ours['requests_per_s']:.0f} ({ours['p99_ms']:.1f}) | {row['ratio']:.2f} "
              f"| {echo['cpu_us']:.0f} | {ours['cpu_us']:.0f} |")
    stream = result["stream"]
    print(f"\nStream scoring: {stream['rows_per_s']:.0f} rows/s, {stream['cpu_us']:.1f} us CPU a row; "
          f"predictor RSS {result['rss_bytes'] / 2**20:.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rows", type=int, default=200_000)
    given = parser.parse_args()
    result = in_place(lambda place: run(place, given.seconds, given.rows))
    show(result)
    write("predictor", result)


if __name__ == "__main__":
    main()
