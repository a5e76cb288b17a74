"""What the registry's topic says is taken up model by model: one waits for its own loads, and never for another's."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from lepton.bus.care import Care
from lepton.clock import SystemClock
from lepton.errors import Missing
from lepton.runtime.health import Health
from lepton.runtime.settings import LeptonSettings
from lepton.runtime.telemetry import Telemetry
from lepton.store.artifacts import Artifacts
from services.predictor.edge.updates import Updates
from tests.harness.onnx_models import Linear
from tests.harness.registry import digest
from tests.harness.wait import apoll_until
from tests.unit.predictor.held import Held, held

ONE = {"amount": "float"}
SLOW = Linear(ONE, bias=7.0)


class Refusals:
    """The only part of Measures that is used."""

    def refused(self, model: str) -> None:
        raise AssertionError(f"{model} is refused")


def updates_of(here: Held) -> Updates:
    clock = SystemClock()
    telemetry = Telemetry("test", "test", LeptonSettings(instance="test"), clock, Health(clock))
    return Updates(here.broker, "test", here.library, Care(clock), Refusals(), telemetry)  # type: ignore[arg-type]


@pytest.fixture
def held_back(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """The store does not give the slow model's file before this is set."""
    given, get, slow = asyncio.Event(), Artifacts.get, digest(SLOW.build())

    async def late(store: Artifacts, name: str) -> Any:
        if name == slow:
            await given.wait()
        return await get(store, name)

    monkeypatch.setattr(Artifacts, "get", late)
    return given


async def serving(here: Held, model: str, version: int) -> None:
    async def probe() -> bool:
        return here.library.serving(model) == version
    await apoll_until(probe, f"{model} v{version} to answer", 20)


async def test_a_roll_back_waits_for_no_other_model_s_load(tmp_path: Path, held_back: asyncio.Event) -> None:
    async with held(tmp_path) as here:
        updates, stop = updates_of(here), asyncio.Event()
        await updates.start()
        for version in (1, 2):
            await here.registry.publish("tiny", Linear(ONE, bias=float(version)))
        async with asyncio.TaskGroup() as group:
            group.create_task(updates.table.run(stop))
            running = group.create_task(updates.run(stop))
            await serving(here, "tiny", 2)
            await here.registry.publish("slow", SLOW)
            await apoll_until(here.knows("slow"), "the slow model to be taken up")
            await here.registry.roll_back("tiny")
            await serving(here, "tiny", 1)
            assert not here.library.serving("slow")
            stop.set()
            await asyncio.wait({running}, timeout=0)
            assert not running.done(), "what is being taken up is left in the middle"
            held_back.set()
        assert here.library.serving("slow") == 1
        await updates.stop()


async def test_at_the_start_too(tmp_path: Path, held_back: asyncio.Event) -> None:
    async with held(tmp_path) as here:
        await here.registry.publish("slow", SLOW)
        await here.registry.publish("tiny", Linear(ONE))
        updates = updates_of(here)
        async with asyncio.TaskGroup() as group:
            starting = group.create_task(updates.start())
            await serving(here, "tiny", 1)
            assert not starting.done() and not here.library.serving("slow")
            held_back.set()
        assert here.library.serving("slow") == 1
        await updates.stop()


async def test_what_nobody_foresaw_ends_the_loop_and_what_else_is_under_way(
        tmp_path: Path, held_back: asyncio.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    async with held(tmp_path) as here:
        updates, stop = updates_of(here), asyncio.Event()
        await updates.start()
        adopt = here.library.adopt

        async def broken(state: Any) -> None:
            if state.model == "tiny":
                await apoll_until(here.knows("slow"), "the slow model to be taken up")
                raise ZeroDivisionError
            await adopt(state)

        monkeypatch.setattr(here.library, "adopt", broken)
        await here.registry.publish("slow", SLOW)
        await here.registry.publish("tiny", Linear(ONE))
        with pytest.raises(ExceptionGroup) as raised:
            async with asyncio.TaskGroup() as group:
                group.create_task(updates.table.run(stop))
                group.create_task(updates.run(stop))
        assert raised.group_contains(ZeroDivisionError)
        held_back.set()
        assert not here.library.serving("slow")
        await updates.stop()


async def test_a_model_taken_away_while_it_is_loaded_is_no_ghost(tmp_path: Path, held_back: asyncio.Event) -> None:
    async with held(tmp_path) as here:
        adopting = asyncio.ensure_future(here.library.adopt(await here.registry.publish("slow", SLOW)))
        await apoll_until(here.knows("slow"), "the slow model to be taken up")
        here.library.forget("slow")
        held_back.set()
        with pytest.raises(Missing, match="away meanwhile"):
            await adopting
        assert (here.library.models(), here.library.serving("slow"), here.library.shown()) == ([], 0, [])
        await here.library.adopt(await here.registry.publish("slow", SLOW))
        assert here.library.serving("slow") == 2


async def test_counts_of_a_step_go_on_after_an_unload(tmp_path: Path) -> None:
    async with held(tmp_path) as here:
        for version in (1, 2):
            await here.registry.publish("tiny", Linear(ONE, bias=float(version)))
        state = await here.registry.announce(here.tried(champion=1, share=0.5))
        await here.library.adopt(state)
        trial = here.library.trial("tiny")
        assert trial is not None
        trial.arms[2].ran(500, 0.001)
        await here.library.unload("tiny")
        assert here.library.trial("tiny") is None
        await here.library.load("tiny")
        again = here.library.trial("tiny")
        assert again is not None and again.arms[2].answered == 500
