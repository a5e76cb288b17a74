"""A hundred versions one after another leave no more in memory than the one that answers and the one before it."""

import gc
import threading
from pathlib import Path

import numpy as np

from lepton.bus.memory import MemoryBroker
from lepton.clock import SystemClock
from lepton.contracts.signing import TrustStore
from lepton.store.artifacts import Artifacts, FileArtifacts
from lepton.store.memory import MemoryDatabase
from services.predictor.core.engine import Setup
from services.predictor.core.session import Options, Session
from services.predictor.core.signature import Feed
from services.predictor.flow.files import Sources
from services.predictor.flow.library import Library
from tests.harness.onnx_models import Linear
from tests.harness.registry import Registry, trainer

ONE = {"amount": "float"}


def sessions() -> set[int]:
    """Sessions that are alive in this process."""
    gc.collect()
    # By type: some objects of other libraries answer a question for their class with a warning.
    return {id(one) for one in gc.get_objects() if type(one) is Session}


def inferring() -> int:
    return sum(thread.name.startswith("inference") for thread in threading.enumerate())


async def test_a_hundred_swaps_leave_two_sessions_and_a_roll_back_loads_none(tmp_path: Path) -> None:
    database = MemoryDatabase()
    registry = Registry(MemoryBroker(), database, trainer(tmp_path))
    await registry.start()
    cache = FileArtifacts(tmp_path / "models")
    library = Library(Sources(Artifacts(database), cache, TrustStore.load(tmp_path / "trust")),
                      Setup(Options("cpu")), SystemClock())

    async def answer() -> float:
        with library.lease("tiny") as engine:
            arrays = {"amount": np.array([1.0]), "_missing": np.zeros((1, 1), dtype=np.bool_)}
            return float((await engine.answer(Feed(arrays, 1), float("inf")))["prediction"][0])

    before, threads = sessions(), inferring()
    for version in range(1, 101):
        await library.adopt(await registry.publish("tiny", Linear(ONE, bias=float(version))))
        assert await answer() == 1.0 + version
    assert library.resident("tiny") == [99, 100]
    assert len(sessions() - before) == 2
    assert inferring() <= threads + 2
    kept = sessions()
    await library.adopt(await registry.roll_back("tiny"))
    assert await answer() == 100.0
    assert sessions() <= kept, "the version before it was loaded anew"
    library.forget("tiny")
    assert sessions() == before
    await registry.stop()
