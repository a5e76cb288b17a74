"""The predictor beside Triton's binary, PyTriton, MLServer, LitServe, BentoML and Ray Serve, in one run.

    python -m tests.bench.peers [--seconds 4] [--rounds 2] [--only triton,mlserver]

Each peer comes from a hashed lock file of its own (requirements/peer-*.lock) and is installed into the cache on first
use; one that cannot be installed or started is listed with its error. All serve the same two files with ONNX Runtime on
one thread, one server at a time, on loopback, under the load generator in Go, which shares the machine's cores. A Go
echo and ONNX Runtime alone, while the echo takes as many requests as the predictor answered, are measured beside.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil

from lepton.errors import Unavailable
from tests.bench.bench_predictor import one_tensor
from tests.bench.peers.ours import DOOR, serving
from tests.bench.peers.process import Tree, measured
from tests.bench.peers.roster import PEERS, TRITON, Peer, running
from tests.bench.peers.table import show
from tests.bench.results import machine, write
from tests.bench.wire.__main__ import LARGE, large_request
from tests.bench.wire.program import go_echo, load, program
from tests.bench.wire.served import Place, in_place
from tests.harness.onnx_models import OneTensor

SMALL: tuple[tuple[str, int, bool], ...] = (
    ("1 client", 1, False), ("16 clients", 16, False), ("64 clients", 64, False), ("64 streams", 64, True))
LARGER, LARGER_CLIENTS = "larger MLP, 64 clients", 64
BARE_BATCH = 32
WARM_UP_S = 0.5

Figures = dict[str, Any]


def best(address: str, tree: Tree, request: bytes, seconds: float, rounds: int, **options: Any) -> Figures:
    """The best of some rounds, warmed up before."""
    load(address, request, seconds=WARM_UP_S, timeout=5.0, **options)
    seen = [measured(address, tree, request, seconds=seconds, **options) for _ in range(rounds)]
    return max(seen, key=lambda one: one["requests_per_s"])


def on_small(address: str, tree: Tree, request: bytes, seconds: float, rounds: int, *, streams: bool = True,
             **options: Any) -> Figures:
    """Every case of the small model, and the memory before and after."""
    told: Figures = {"rss_bytes": tree.rss_bytes()}
    for case, clients, stream in SMALL:
        if streams or not stream:
            told[case] = best(address, tree, request, seconds, rounds, clients=clients, stream=stream, **options)
        if clients == LARGER_CLIENTS and not stream:
            told["rss_after_bytes"] = tree.rss_bytes()
    return told


def peer_figures(peer: Peer, files: tuple[Path, Path], seconds: float, rounds: int) -> Figures:
    """What a peer reaches, or why it does not, each of the two models in a server of its own."""
    told: Figures = {}
    try:
        with running(peer, files[0]) as (address, tree, request):
            told |= on_small(address, tree, request, seconds, rounds, streams=peer.streams, post=peer.post)
        with running(peer, files[1]) as (address, tree, request):
            told[LARGER] = best(address, tree, request, seconds, rounds, clients=LARGER_CLIENTS, post=peer.post)
    except (Unavailable, AssertionError, subprocess.SubprocessError) as error:
        told["error"] = " ".join(str(error).split())[:300]
    return told


async def our_figures(place: Place, file: Path, seconds: float, rounds: int) -> Figures:
    """Ours, the echo's and those of ONNX Runtime alone."""
    async with serving(place) as ours:
        told = await asyncio.to_thread(on_small, ours.address, ours.tree, one_tensor(), seconds, rounds, key=ours.key)
        await ours.add_large()
        told[LARGER] = await asyncio.to_thread(best, ours.address, ours.tree, large_request(), seconds, rounds,
                                               clients=LARGER_CLIENTS, key=ours.key)
    with go_echo() as (address, process):
        echo = on_small(address, Tree(process.pid), one_tensor(), seconds, rounds)
        bare = beside(address, process, file, told[LARGER]["requests_per_s"], seconds, rounds)
    return {"ours": told, "echo": echo, "bare": bare}


def beside(address: str, echo: psutil.Process, file: Path, rate: float, seconds: float, rounds: int) -> Figures:
    """ONNX Runtime alone in batches, while the echo takes the requests that the predictor took."""
    found = []
    for _ in range(rounds):
        with subprocess.Popen([sys.executable, "-m", "tests.bench.peers.bare", str(file), str(BARE_BATCH),
                               str(seconds)], stdout=subprocess.PIPE, text=True) as alone:
            seen = measured(address, Tree(echo.pid), large_request(), rate=rate, seconds=seconds)
            said, _ = alone.communicate(timeout=seconds + 60)
        found.append({**json.loads(said), "echo": seen})
    return max(found, key=lambda one: float(one["rows_per_s"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", default="", help=f"some of {', '.join(sorted({peer.server for peer in PEERS}))}")
    given = parser.parse_args()
    try:
        program()
    except Unavailable as error:
        print(f"not measured: {error}")
        return
    wanted = [peer for peer in PEERS if not given.only or peer.server in given.only.split(",")]
    with tempfile.TemporaryDirectory(prefix="lepton-peers-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        files = home / "small.onnx", home / "large.onnx"
        files[0].write_bytes(OneTensor().build())
        files[1].write_bytes(OneTensor(LARGE).build())
        print(f"{DOOR} door", flush=True)
        found = in_place(lambda place: our_figures(place, files[1], given.seconds, given.rounds))
        peers = {}
        for peer in wanted:
            print(peer.name, flush=True)
            peers[peer.name] = peer_figures(peer, files, given.seconds, given.rounds)
    result = {"machine": machine(), "door": DOOR, "seconds": given.seconds, "rounds": given.rounds, **found,
              "peers": peers}
    show(result, [case for case, _, _ in SMALL], LARGER, TRITON)
    write("peers", result)


if __name__ == "__main__":
    main()
