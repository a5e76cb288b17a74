from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from services.watchdog.core.rules import symptoms
from services.watchdog.core.symptom import Symptom
from tests.unit.watchdog.house import House


@pytest_asyncio.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    built = House(tmp_path)
    await built.furnish()
    yield built
    await built.leave()


@pytest.fixture
def shows(monkeypatch: pytest.MonkeyPatch) -> list[Symptom]:
    """What is seen besides what the signals show: for courses whose detectors have tests of their own."""
    given: list[Symptom] = []
    monkeypatch.setattr("services.watchdog.core.engine.symptoms",
                        lambda state, tick: [*symptoms(state, tick), *given])
    return given
