"""A library of models without doors and loops around it, for what is decided between them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from lepton.bus.memory import MemoryBroker
from lepton.clock import SystemClock
from lepton.contracts.pb import models_pb2
from lepton.contracts.signing import TrustStore
from lepton.store.artifacts import Artifacts, FileArtifacts
from lepton.store.memory import MemoryDatabase
from services.predictor.core.engine import Setup
from services.predictor.core.session import Options
from services.predictor.flow.files import Sources
from services.predictor.flow.library import Library
from tests.harness.registry import Registry, trainer

CANARY, SHADOW = models_pb2.ROLLOUT_STRATEGY_CANARY, models_pb2.ROLLOUT_STRATEGY_SHADOW


@dataclass
class Held:
    """A library and the registry it takes states from."""

    library: Library
    registry: Registry
    broker: MemoryBroker

    def knows(self, model: str) -> Callable[[], Awaitable[bool]]:
        """Whether the library was told of the model; to be polled."""
        async def probe() -> bool:
            return any(one.model == model for one in self.library.shown())
        return probe

    def tried(self, champion: int, share: float, model: str = "tiny") -> models_pb2.ModelState:
        """The state in which the newest version is tried beside `champion`, in the shadow when `share` is 0."""
        state = self.registry.state(model)
        state.champion, state.previous_champion = champion, champion - 1
        state.rollout.CopyFrom(models_pb2.Rollout(
            candidate=len(state.versions), champion=champion, strategy=CANARY if share else SHADOW,
            state=models_pb2.ROLLOUT_STATE_RUNNING, share=share, since=state.revision + 1))
        return state


@asynccontextmanager
async def held(home: Path) -> AsyncIterator[Held]:
    broker, database = MemoryBroker(), MemoryDatabase()
    registry = Registry(broker, database, trainer(home))
    await registry.start()
    library = Library(Sources(Artifacts(database), FileArtifacts(home / "models"), TrustStore.load(home / "trust")),
                      Setup(Options("cpu")), SystemClock())
    try:
        yield Held(library, registry, broker)
    finally:
        for model in library.models():
            library.forget(model)
        await registry.stop()
