"""What the predictor's unit tests share: a loaded tiny model."""

from collections.abc import Callable, Iterator

import pytest

from lepton.clock import SystemClock
from services.predictor.core.batcher import Limits
from services.predictor.core.engine import Engine, Setup
from services.predictor.core.session import Options
from tests.harness.onnx_models import Linear

FIELDS = {"amount": "float", "count": "int", "known": "bool", "country": "category"}

Load = Callable[..., Engine]


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
