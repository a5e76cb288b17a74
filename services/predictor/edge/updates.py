"""The registry's topic in: each model's newest state is handed to the library, again and again until it is taken up."""

import asyncio
import logging
from dataclasses import dataclass

from lepton.bus.care import Care
from lepton.bus.records import Broker, Record
from lepton.bus.retry import RetryPolicy
from lepton.bus.table import Table
from lepton.clock import Clock
from lepton.contracts import codec, topics
from lepton.contracts.pb import models_pb2
from lepton.contracts.topics import Topic
from lepton.errors import Busy, Missing, Refused, Unavailable
from lepton.runtime.loops import Works, pause
from lepton.runtime.telemetry import Telemetry
from services.predictor.edge.measures import Measures
from services.predictor.flow.files import Lost
from services.predictor.flow.library import Library

LOOK_EVERY_S = 0.1
"""How soon a change is taken up. Loading is not done where the topic is read, which must show that it goes on."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Waiting:
    state: models_pb2.ModelState
    attempt: int
    due: float
    keeps: bool = False
    """Only the champion before is missing by now, and that was told."""


class Updates:
    """Starts by reading the registry to its end and taking up every champion once, before anything is scored."""

    def __init__(self, broker: Broker, client_id: str, library: Library, care: Care, measures: Measures,
                 telemetry: Telemetry) -> None:
        self._library = library
        self._clock: Clock = care.clock
        self._measures = measures
        self._telemetry = telemetry
        self._retry = RetryPolicy()
        self._waiting: dict[str, _Waiting] = {}
        self._works: Works[str, None] = Works()
        """A model's next state waits for its last one; models do not wait for each other."""
        self._seen: dict[str, models_pb2.ModelState] = {}
        self.table: Table[models_pb2.ModelState] = Table(
            broker, topics.name(Topic.MODELS), decode, client_id=f"{client_id}-models", care=care,
            on_change=self._changed)

    async def start(self) -> None:
        """Raises Unavailable or Missing when the topic cannot be read; a model that fails holds up nothing."""
        await self.table.start()
        try:
            for model, state in list(self.table.values.items()):
                self._begin(model, _Waiting(state, 0, 0.0))
                if self._library.parking.bounded:
                    # The next may need the room of one that could not leave while it is still being taken up.
                    await self._works.all()
            await self._works.all()
        finally:
            await self._works.cancel()

    async def stop(self) -> None:
        await self.table.stop()

    async def run(self, stop: asyncio.Event) -> None:
        """Take up what changed, and try again what could not be had; what was begun is ended before this returns."""
        try:
            while not await pause(stop, LOOK_EVERY_S, self._clock):
                self._works.check()
                now = self._clock.monotonic()
                for model, waiting in list(self._waiting.items()):
                    if waiting.due <= now and model not in self._works.keys:
                        del self._waiting[model]
                        self._begin(model, waiting)
            await self._works.all()
        finally:
            await self._works.cancel()

    async def _changed(self, model: str, state: models_pb2.ModelState | None) -> None:
        if state is None:
            self._waiting.pop(model, None)
            self._seen.pop(model, None)
            self._library.forget(model)
        elif state != self._seen.get(model):
            self._waiting[model] = _Waiting(state, 0, 0.0)

    def _begin(self, model: str, waiting: _Waiting) -> None:
        self._seen[model] = waiting.state
        self._works.start(model, self._adopt(model, waiting))

    async def _adopt(self, model: str, waiting: _Waiting) -> None:
        if self._seen.get(model) is not waiting.state:
            return
        before = self._library.serving(model)
        place = f"{model} revision {waiting.state.revision}"
        try:
            if model != waiting.state.model:
                raise Refused("the state is of another model than its key", field="model", place=model)
            await self._library.adopt(waiting.state)
        except Refused as error:
            self._measures.refused(model)
            self._telemetry.error("model_refused", f"v{before or '-'} goes on: {error}", place)
        except Missing:
            log.info("%s was taken out of the registry while it was loaded", place)
        except (Busy, Unavailable) as error:
            if not waiting.attempt and isinstance(error, Lost) and error.damaged:
                self._measures.refused(model)
            pause_s = self._retry.pause_s(waiting.attempt + 1, error)
            self._telemetry.error("model_unavailable", f"tried again in {pause_s:.1f} s: {error}", place)
            self._again(model, waiting, pause_s)
        else:
            after = self._library.serving(model)
            if after != before:
                log.info("%s: v%d answers now, before it v%d", model, after, before)
            self._look_at_the_one_before(model, waiting, place)

    def _look_at_the_one_before(self, model: str, waiting: _Waiting, place: str) -> None:
        """A champion before that is not in memory is told of once, and asked for again where that may help."""
        error = self._library.unkept(model)
        if error is None:
            return
        if not waiting.keeps:
            self._telemetry.error("model_not_kept", f"v{self._library.serving(model)} answers; a roll back must load "
                                                    f"the version before it, which fails: {error}", place)
        if isinstance(error, Unavailable):
            self._again(model, waiting, self._retry.pause_s(waiting.attempt + 1, error), keeps=True)

    def _again(self, model: str, waiting: _Waiting, pause_s: float, *, keeps: bool = False) -> None:
        # A newer state that came meanwhile goes first; what was taken out of the registry is not brought back.
        if self._seen.get(model) is waiting.state:
            self._waiting.setdefault(model, _Waiting(waiting.state, waiting.attempt + 1,
                                                     self._clock.monotonic() + pause_s, keeps or waiting.keeps))


def decode(record: Record) -> models_pb2.ModelState:
    return codec.decode_as(Topic.MODELS, models_pb2.ModelState, record.value or b"")
