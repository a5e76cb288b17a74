"""Whether the predictor's memory stays flat over many requests and many swaps of a model.

    python -m tests.bench.peers.flat [--requests 5000000] [--swaps 1000]

One predictor with the small model and the door that is built: first the requests, as 64 streams, then the swaps, each
a new version that is published, loaded, warmed and taken, under a light load. Resident memory is read at every
twentieth of either; what counts is how much it grew from the tenth of the way on.
"""

import argparse
import asyncio
from typing import Any

from tests.bench.bench_predictor import one_tensor
from tests.bench.peers.ours import DOOR, Ours, serving
from tests.bench.results import machine, write
from tests.bench.wire.program import load
from tests.bench.wire.served import Place, in_place

STREAMS = 64
CHUNK_S = 2.0
LIGHT_PER_S = 200.0
POINTS = 20


def spread(seen: list[tuple[int, int]], whole: int) -> dict[str, Any]:
    """Of (done, resident bytes): the least and most from a tenth on, the last, and growth from there to the end."""
    late = [size for done, size in seen if done >= whole / 10] or [seen[-1][1]]
    return {"least_bytes": min(late), "most_bytes": max(late), "first_bytes": late[0], "last_bytes": late[-1],
            "growth": late[-1] / late[0] - 1, "failed": 0, "done": seen[-1][0], "seen": seen}


def requests(ours: Ours, count: int) -> dict[str, Any]:
    """So many answered requests, and the memory along the way."""
    seen, done, failed, told = [(0, ours.tree.rss_bytes())], 0, 0, 0
    while done < count:
        one = load(ours.address, one_tensor(), key=ours.key, clients=STREAMS, stream=True, seconds=CHUNK_S)
        done, failed = done + one["requests"], failed + one["failed"]
        if not one["requests"]:
            break
        if done * POINTS // count > told:
            told = done * POINTS // count
            seen.append((done, ours.tree.rss_bytes()))
            print(f"{done:,} requests, {seen[-1][1] / 2**20:.1f} MB", flush=True)
    return {**spread(seen, count), "failed": failed}


async def swaps(ours: Ours, count: int) -> dict[str, Any]:
    """So many versions, one after the other is served, and the memory along the way."""
    seen, done, failed, answered = [(0, ours.tree.rss_bytes())], 0, 0, 0

    async def light() -> None:
        nonlocal failed, answered
        while done < count:
            one = await asyncio.to_thread(lambda: load(ours.address, one_tensor(), key=ours.key, rate=LIGHT_PER_S,
                                                       seconds=CHUNK_S))
            failed, answered = failed + one["failed"] + one["refused"], answered + one["requests"]

    under = asyncio.ensure_future(light())
    while done < count and not under.done():
        await ours.swap()
        done += 1
        if done * POINTS // count > (done - 1) * POINTS // count:
            seen.append((done, ours.tree.rss_bytes()))
            print(f"{done:,} swaps, {seen[-1][1] / 2**20:.1f} MB", flush=True)
    await under
    return {**spread(seen, count), "failed": failed, "answered": answered}


async def run(place: Place, count: int, versions: int) -> dict[str, Any]:
    async with serving(place) as ours:
        told = {"requests": await asyncio.to_thread(requests, ours, count)}
        if versions:
            told["swaps"] = await swaps(ours, versions)
    return {"machine": machine(), "door": DOOR, **told}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=5_000_000)
    parser.add_argument("--swaps", type=int, default=1_000)
    given = parser.parse_args()
    result = in_place(lambda place: run(place, given.requests, given.swaps))
    print(f"\n{result['door']} door ({result['machine']}), resident MB from a tenth of the way on")
    for what in ("requests", "swaps"):
        if told := result.get(what):
            print(f"{told['done']:,} {what}: {told['least_bytes'] / 2**20:.1f} to {told['most_bytes'] / 2**20:.1f}, "
                  f"{told['growth']:+.1%} to the end, {told['failed']} failed")
    write("flat", result)


if __name__ == "__main__":
    main()
