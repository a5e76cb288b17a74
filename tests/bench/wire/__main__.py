"""Both gRPC doors of the predictor beside a Go echo: requests, streams, overload, swaps, memory.

    python -m tests.bench.wire [--seconds 4] [--rounds 2]

Starts a broker, a database and predictors of its own on loopback. The load generator is in Go (tests/bench/wire), and
shares the machine's cores with what it measures. Needs Go; without it, it says so and ends.
"""

import argparse
import asyncio
import functools
from typing import Any

import httpx
import numpy as np
import psutil

from lepton.contracts.modelling.serving import Batching
from lepton.contracts.pb import grpc_service_pb2 as oip
from lepton.errors import Unavailable
from tests.bench.bench_predictor import PLAIN_MODEL, one_tensor
from tests.bench.results import machine, write
from tests.bench.wire.program import go_echo, load, measured, program
from tests.bench.wire.served import Place, in_place
from tests.harness.doors import DOORS, SETTING
from tests.harness.onnx_models import OneTensor
from tests.harness.registry import Registry
from tests.harness.wait import apoll_until

CASES = ((1, False), (16, False), (64, False), (64, True))
"""Clients, and whether each holds a stream."""

LARGE_MODEL = "bench-large"
LARGE = (1024, 4096, 4096, 10)
"""The larger MLP: its time goes into products of matrices."""

OVERLOAD, MODEST, STEADY = 3.0, 0.8, 0.7
"""Shares of the capacity."""

SWAP_EVERY_S = 2.0
WARM_UP_S = 0.5


def large_request() -> bytes:
    request = oip.ModelInferRequest(model_name=LARGE_MODEL, id="bench")
    request.inputs.add(name="x", datatype="FP32", shape=[1, LARGE[0]])
    request.raw_input_contents.append(np.ones(LARGE[0], dtype="<f4").tobytes())
    return request.SerializeToString()


def beside_echo(address: str, process: psutil.Process, key: str, seconds: float, rounds: int) -> list[dict[str, Any]]:
    """The better round of each case; door and echo take turns."""
    table = []
    with go_echo() as (at, floor):
        for clients, stream in CASES:
            for one, credential in ((at, ""), (address, key)):
                load(one, one_tensor(), key=credential, clients=clients, stream=stream, seconds=WARM_UP_S)
            seen: dict[str, list[dict[str, Any]]] = {"echo": [], "door": []}
            asked: dict[str, Any] = {"clients": clients, "stream": stream, "seconds": seconds}
            for _ in range(rounds):
                seen["echo"].append(measured(at, floor, one_tensor(), **asked))
                seen["door"].append(measured(address, process, one_tensor(), key=key, **asked))
            best = {name: max(each, key=lambda one: one["requests_per_s"]) for name, each in seen.items()}
            table.append({"clients": clients, "stream": stream, **best,
                          "ratio": best["door"]["requests_per_s"] / best["echo"]["requests_per_s"],
                          "p50_ratio": best["door"]["p50_ms"] / best["echo"]["p50_ms"]})
    return table


def loaded(admin: str) -> bool:
    return f'lepton_predictor_model_version{{model="{LARGE_MODEL}"' in httpx.get(f"http://{admin}/metrics").text


def overload(address: str, process: psutil.Process, key: str, seconds: float) -> dict[str, Any]:
    """The larger model: what it answers at most, at 0.8 of that, and when three times as much is asked."""
    request = large_request()
    load(address, request, key=key, clients=64, seconds=WARM_UP_S)
    usual = measured(address, process, request, key=key, clients=64, seconds=seconds)
    # Batches grow with what waits, and larger ones cost less a row: one runs and one is full behind it.
    most = measured(address, process, request, key=key, clients=2 * Batching().max_rows, seconds=seconds)
    rate = max(usual["requests_per_s"], most["requests_per_s"])
    modest = measured(address, process, request, key=key, rate=MODEST * rate, seconds=seconds)
    much = measured(address, process, request, key=key, rate=OVERLOAD * rate, seconds=seconds)
    return {"usual": usual, "capacity_per_s": rate, "modest": modest, "much": much,
            "goodput": much["requests_per_s"] / rate, "p99_ratio": much["p99_ms"] / max(modest["p99_ms"], 1e-9)}


async def swaps(address: str, process: psutil.Process, key: str, seconds: float, capacity: float,
                registry: Registry) -> dict[str, Any]:
    """A steady load on the small model without swaps, then with one every two seconds."""
    asked: dict[str, Any] = {"key": key, "rate": STEADY * capacity, "seconds": seconds}
    still = await asyncio.to_thread(lambda: measured(address, process, one_tensor(), **asked))
    under = asyncio.ensure_future(asyncio.to_thread(lambda: measured(address, process, one_tensor(), **asked)))
    count = 0
    while not under.done():
        await asyncio.wait({under}, timeout=SWAP_EVERY_S)
        if not under.done():
            await registry.publish(PLAIN_MODEL, OneTensor())
            count += 1
    swapped = await under
    return {"still": still, "swapped": swapped, "swaps": count,
            "p99_ratio": swapped["p99_ms"] / max(still["p99_ms"], 1e-9)}


async def run(place: Place, seconds: float, rounds: int) -> dict[str, Any]:
    await place.registry.publish(PLAIN_MODEL, OneTensor())
    doors: dict[str, Any] = {}
    for door in DOORS:
        with place.predictor(**{SETTING: door}) as (address, admin, process):
            table = await asyncio.to_thread(beside_echo, address, process, place.key, seconds, rounds)
            doors[door] = {"beside_echo": table, "rss_bytes": process.memory_info().rss}
            if door == DOORS[-1]:
                # Only now, so that the figure above is that of one small model.
                await place.registry.publish(LARGE_MODEL, OneTensor(LARGE))
                await apoll_until(functools.partial(asyncio.to_thread, loaded, admin), "the larger model", 120)
                doors[door]["overload"] = await asyncio.to_thread(overload, address, process, place.key, 2 * seconds)
                capacity = next(row["door"]["requests_per_s"] for row in table if row["clients"] == 64)
                doors[door]["swaps"] = await swaps(address, process, place.key, 4 * seconds, capacity, place.registry)
                doors[door]["rss_after_bytes"] = process.memory_info().rss
    return {"machine": machine(), "doors": doors}


def show(result: dict[str, Any]) -> None:
    print(f"\nSmall MLP beside a Go echo, load generator in Go ({result['machine']}, shared by all)")
    print("| door | clients | echo req/s (p50, p99 ms) | door req/s (p50, p99 ms) | ratio | p50 ratio | CPU us |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for door, told in result["doors"].items():
        for row in told["beside_echo"]:
            echo, ours, kind = row["echo"], row["door"], " streams" if row["stream"] else ""
            print(f"| {door} | {row['clients']}{kind} | {echo['requests_per_s']:.0f} ({echo['p50_ms']:.2f}, "
                  f"{echo['p99_ms']:.1f}) | {ours['requests_per_s']:.0f} ({ours['p50_ms']:.2f}, {ours['p99_ms']:.1f}) "
                  f"| {row['ratio']:.2f} | {row['p50_ratio']:.2f} | {ours['cpu_us']:.0f} |")
        print(f"memory of the predictor, {door} door: {told['rss_bytes'] / 2**20:.0f} MB (one small model)")
        if "overload" in told:
            asked, kept = told["overload"], told["swaps"]
            print(f"larger MLP, 64 clients: {asked['usual']['requests_per_s']:.0f} req/s; "
                  f"at most {asked['capacity_per_s']:.0f}; asked for 3 x as many: goodput "
                  f"{asked['goodput']:.2f}, p99 x {asked['p99_ratio']:.2f}, {asked['much']['refused']} refused within "
                  f"{asked['much']['refused_p99_ms']:.1f} ms (p99), {asked['much']['failed']} failed, "
                  f"{asked['much']['lost']} not sent")
            print(f"{kept['swaps']} swaps under 0.7 x capacity: {kept['swapped']['failed']} failed, p99 x "
                  f"{kept['p99_ratio']:.2f}; {told['rss_after_bytes'] / 2**20:.0f} MB after")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    try:
        program()
    except Unavailable as error:
        print(f"not measured: {error}")
        return
    result = in_place(lambda place: run(place, given.seconds, given.rounds))
    show(result)
    write("wire", result)


if __name__ == "__main__":
    main()
