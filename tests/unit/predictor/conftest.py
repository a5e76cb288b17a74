"""What the predictor's unit tests share: a loaded tiny model, and a gate in front of inference."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lepton.clock import SystemClock
from services.predictor.core.batching.limits import Limits
from services.predictor.core.engine import Engine, Setup
from services.predictor.core.session import Options, Session
from tests.harness.doors import DOORS, SETTING
from tests.harness.onnx_models import Linear
from tests.unit.runtime.test_telemetry import collector  # noqa: F401 - a fixture of this folder too

FIELDS = {"amount": "float", "count": "int", "known": "bool", "country": "category"}

Load = Callable[..., Engine]


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each gRPC door that there is, one after the other."""
    monkeypatch.setenv(SETTING, request.param)
    return str(request.param)


@pytest.fixture
def load() -> Iterator[Load]:
    """Loads a `Linear` as a version, as the service would."""
    engines: list[Engine] = []

    def load(linear: Linear | None = None, version: int = 1, limits: Limits | None = None) -> Engine:
        linear = linear or Linear(FIELDS)
        data = linear.build()
        engine = Engine.load(linear.manifest(data, version=version), data, Setup(Options("cpu")),
                             limits or Limits(), SystemClock())
        engines.append(engine)
        return engine

    yield load
    for engine in engines:
        engine.close()


class Gate:
    """Holds every run of every model while it is closed; `entered` is set once one is held."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self._open = threading.Event()
        self._open.set()

    def pass_through(self) -> None:
        if not self._open.is_set():
            self.entered.set()
            self._open.wait(10)

    def close(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    async def holds(self) -> None:
        """Wait until a run is held."""
        assert await asyncio.to_thread(self.entered.wait, 10)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate, run = Gate(), Session.run

    def held(session: Session, arrays: Any) -> Any:
        gate.pass_through()
        return run(session, arrays)

    monkeypatch.setattr(Session, "run", held)
    # How long a run takes follows from no rows then: on the native door's I/O thread it would hold up everybody.
    monkeypatch.setattr(Engine, "is_steady", False)
    yield gate
    gate.open()
