"""The predictor with its native door where it is built, key check and telemetry on."""

import asyncio
import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

from tests.bench.bench_predictor import PLAIN_MODEL
from tests.bench.peers.process import Tree
from tests.bench.wire.__main__ import LARGE, LARGE_MODEL
from tests.bench.wire.served import Place
from tests.harness.doors import DOORS, SETTING
from tests.harness.onnx_models import OneTensor
from tests.harness.registry import Registry
from tests.harness.wait import apoll_until

DOOR = DOORS[-1]
LOAD_S = 120.0


@dataclass(frozen=True)
class Ours:
    """A predictor that serves the small model."""

    address: str
    admin: str
    tree: Tree
    key: str
    registry: Registry

    async def add_large(self) -> None:
        """Publish the larger model and wait until it is served."""
        await self.registry.publish(LARGE_MODEL, OneTensor(LARGE))
        await apoll_until(functools.partial(asyncio.to_thread, self._serves, LARGE_MODEL), "the larger model", LOAD_S)

    async def swap(self) -> None:
        """Publish the next version of the small model, and wait until it is served."""
        before = await asyncio.to_thread(self._version)
        await self.registry.publish(PLAIN_MODEL, OneTensor())

        async def newer() -> bool:
            return await asyncio.to_thread(self._version) > before

        await apoll_until(newer, "the next version", LOAD_S, every_s=0.02)

    def _version(self) -> float:
        told = [line for line in self._metrics() if line.startswith("lepton_predictor_model_version{")
                and f'model="{PLAIN_MODEL}"' in line]
        return max((float(line.rpartition(" ")[2]) for line in told), default=0.0)

    def _serves(self, model: str) -> bool:
        return any(line.startswith("lepton_predictor_model_version{") and f'model="{model}"' in line
                   for line in self._metrics())

    def _metrics(self) -> list[str]:
        return httpx.get(f"http://{self.admin}/metrics", timeout=30).text.splitlines()


@asynccontextmanager
async def serving(place: Place) -> AsyncIterator[Ours]:
    """It, ready; ended on leaving."""
    await place.registry.publish(PLAIN_MODEL, OneTensor())
    with place.predictor(**{SETTING: DOOR}) as (address, admin, process):
        yield Ours(address, admin, Tree(process.pid), place.key, place.registry)
