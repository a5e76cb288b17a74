"""Which models leave memory for want of room, and how they come back when they are asked."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Container, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Generic, Protocol, TypeVar

from lepton.clock import Clock
from lepton.contracts.pb import models_pb2
from lepton.errors import Busy, Missing, Refused, Unavailable
from lepton.runtime.loops import Works
from services.predictor.core.oip.tally import Tally
from services.predictor.core.rollout.arms import Trial
from services.predictor.core.room import MAX_WAITING, Room
from services.predictor.core.slots import Closable, Slots
from services.predictor.flow.files import Lost

PARKED = "it left memory for want of room (LEPTON_PREDICTOR_MEMORY_MIB); its next request loads it"
"""Why a model that answers is not in memory."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Standing:
    """What the registry says of a model and what became of it. `settled`: waiting changes nothing any more."""

    revision: int = 0
    champion: int = 0
    settled: bool = False
    reason: str = "it is being loaded"
    state: models_pb2.ModelState | None = None
    unloaded: bool = False
    """An operator had it leave this process, until it is loaded again."""
    refused: int = 0
    """The champion that does not hold, and for which the one before goes on answering; 0: none."""
    lost: str = ""
    """The SHA-256 of its file, where it is refused because nobody has that whole."""
    left: int = 0
    """The champion that does not answer here for as long as the registry names it: the one before does."""
    unkept: Refused | Unavailable | None = None
    """Why the champion before is not in memory, where it should be."""
    trial: Trial | None = None
    """The step of a rollout last taken part in; its counts go on if it is, after an unload or a roll back here."""
    parked: int = 0
    """The version that is loaded at the next request, since it left memory for want of room; 0: none did."""
    tallies: dict[int, Tally] = field(default_factory=dict)
    """What versions did until then."""
    waiting: int = 0
    """Requests that wait for that load."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def fail(self, error: Refused | Unavailable) -> None:
        """The champion was not loaded. What cannot be had now may be had soon; what is lost is told of meanwhile."""
        if isinstance(error, Lost):
            self.reason, self.refused, self.lost = str(error), self.champion, error.digest
        elif isinstance(error, Refused):
            self.settled, self.reason, self.refused, self.lost = True, str(error), self.champion, ""

    def unpark(self) -> None:
        """A version is in memory, or none is wanted there."""
        self.parked, self.tallies = 0, {}


@dataclass(frozen=True, slots=True)
class Shown:
    """One version of one model as an operator sees it; `version` 0 when the model has none in memory.

    `settled`: nothing is being loaded; `reason` says what is wrong, if anything is.
    """

    model: str
    version: int
    revision: int
    serving: bool
    settled: bool
    reason: str
    provider: str
    parked: bool = False
    """The version answers, but is loaded first: it left memory for want of room."""


def bare(error: Refused | Unavailable) -> Refused | Unavailable:
    """The same to be kept: the frames that it came through hold the file, and what was made of it."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def check_current(standings: Mapping[str, Standing], state: models_pb2.ModelState,
                  engine: Closable | None = None) -> None:
    """Raises Missing, and closes `engine`, where the registry took the model away since `state` was begun with: were it
    served now, nobody would ever take it away again."""
    standing = standings.get(state.model)
    if standing is None or standing.state is not state:
        if engine is not None:
            engine.close()
        raise Missing(f"the registry took `{state.model}` away meanwhile", field="model_name",
                      remedy="publish it again")


class Parked(Closable, Protocol):
    """A version as it is parked; `cost` in bytes."""

    cost: int
    tally: Tally

    def resume(self, tally: Tally) -> None:
        """Go on counting from there."""


E = TypeVar("E", bound=Parked)


class Parking(Generic[E]):
    """`bring` has a version in memory. `kept` are models that must not leave. Belongs to the event loop."""

    def __init__(self, room: Room, slots: Slots[E], standings: dict[str, Standing], kept: Container[str],
                 bring: Callable[[models_pb2.ModelState, int], Awaitable[None]], clock: Clock) -> None:
        self._room = room
        self._slots = slots
        self._standings = standings
        self._kept = kept
        self._bring = bring
        self._clock = clock
        self._loading = asyncio.Lock()
        """Held around loads, so that what the process grew by is one model's."""
        self._woken: Works[str, None] = Works()
        self.gather: Callable[[], object] = lambda: None
        """Called before a model leaves: whoever answers requests by itself tells which were asked."""

        self.elsewhere: Callable[[str], bool] = lambda model: False
        """Whether requests for a model are under way that hold no lease of their own."""

    @property
    def bounded(self) -> bool:
        """Whether models may have to leave memory for others."""
        return self._room.bounded

    def asked(self, model: str) -> bool:
        """Note that a model is asked; whether it must be loaded again first (`wake`)."""
        if not self._room.bounded or model not in self._standings:
            return False
        self._room.touch(model)
        return self._standings[model].parked != 0

    def forget(self, model: str) -> None:
        self._room.forget(model)

    async def wake(self, model: str, deadline: float = inf) -> None:
        """Have a model that left memory loaded again, and wait for it until `deadline`, in monotonic seconds.

        Raises TimeoutError then, Busy when too many wait already or nothing else can leave, and what a load raises.
        """
        standing = self._standings[model]
        if standing.waiting >= MAX_WAITING:
            raise Busy(f"{standing.waiting} requests wait for {model} to be loaded already", remedy="send again later")
        standing.waiting += 1
        try:
            while self.asked(model):
                if model not in self._woken.keys:
                    self._woken.start(model, self._restore(model))
                left_s = None if deadline == inf else deadline - self._clock.monotonic()
                await asyncio.wait_for(self._woken.end_of(model), left_s)
        except Refused as refused:
            raise Unavailable(f"no version of `{model}` answers: {refused}", field="model",
                              remedy="publish the model again") from refused
        except TimeoutError as error:
            raise TimeoutError("the deadline passed before the model was in memory again") from error
        finally:
            standing.waiting -= 1

    async def run(self, stop: asyncio.Event) -> None:
        """A loop for the service: what is being loaded for requests is given up at `stop`."""
        await stop.wait()
        await self._woken.cancel()

    def parked(self) -> list[tuple[str, int, Tally]]:
        """Versions that left memory for want of room, with what they did until then."""
        return [(model, version, tally) for model, standing in sorted(self._standings.items()) if standing.parked
                for version, tally in sorted(standing.tallies.items())]

    async def load(self, manifest: models_pb2.ModelManifest, load: Callable[[], Awaitable[E]]) -> E:
        """What `load` gives, once there is room for it. Raises what it raises, Busy, and Refused for what would not
        fit alone."""
        if not self._room.bounded:
            return await load()
        async with self._loading:
            self._make_room(manifest.model, self._room.expected(manifest))
            before = self._room.resident()
            engine = await load()
            engine.cost = self._room.took(manifest, self._room.resident() - before)
            try:
                self._make_room(manifest.model, engine.cost)
            except (Busy, Refused):
                engine.close()
                raise
        standing = self._standings.get(manifest.model)
        if standing is not None and manifest.version in standing.tallies:
            engine.resume(standing.tallies[manifest.version])
        return engine

    async def _restore(self, model: str) -> None:
        standing = self._standings.get(model)
        if standing is None:
            raise Missing(f"the registry has no model `{model}`", field="model_name", remedy="publish it first")
        async with standing.turn:
            if not standing.parked or standing.state is None:
                return
            await self._bring(standing.state, standing.parked)
            self._slots.flip(model, standing.parked)
            standing.unpark()
        log.info("%s is in memory again", model)

    def _make_room(self, model: str, needed: int) -> None:
        """Have models leave that were asked longest ago and are not in use. Raises Busy when that is not enough."""
        self._room.check(model, needed)
        if not self._room.excess(self._costs(), needed):
            return
        self.gather()
        for other in self._room.longest_ago():
            if other != model and self._may_leave(other):
                self._park(other)
                if not self._room.excess(self._costs(), needed):
                    return
        raise self._room.full(model, needed)

    def _costs(self) -> list[int]:
        return [engine.cost for engine in self._slots.engines(draining=False)]

    def _may_leave(self, model: str) -> bool:
        standing = self._standings.get(model)
        return (standing is not None and self._slots.serving(model) != 0 and not self._slots.busy(model)
                and not standing.turn.locked() and model not in self._kept and not self.elsewhere(model))

    def _park(self, model: str) -> None:
        standing = self._standings[model]
        standing.parked = self._slots.serving(model)
        for version in self._slots.resident(model):
            with self._slots.lease(model, version) as engine:
                standing.tallies[version] = engine.tally
        self._slots.forget(model)
        log.info("%s left memory for want of room; its next request loads it again", model)
