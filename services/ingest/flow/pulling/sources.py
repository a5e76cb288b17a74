"""Which sources this process pulls: at most one owner each among all processes, begun, changed and ended by specs."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from lepton.contracts.source_blocks import SourceSpec
from lepton.errors import LeptonError, Unavailable
from lepton.runtime.loops import Loop, LoopBody, pause, to_the_end
from lepton.store.incidents import Lease
from lepton.store.pipelines import SourceBoard
from services.ingest.flow.pulling.pull import Pull, Workplace
from services.ingest.flow.spec import Spec

__all__ = ["Sources"]

TEND_S = 2.0
# However often sources turn, the database is not asked more often.
LEAST_S = 0.25
# Said again so often although nothing changed, so that silence can be told from rest.
SAY_EVERY_S = 5.0

Spawn = Callable[[str, LoopBody], Loop]
"""Begins a loop that may end by itself."""
Key = tuple[str, str]

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Owned:
    """A source this process pulls."""

    spec: Spec
    source: SourceSpec
    fence: int
    pull: Pull
    loop: Loop
    said: dict[str, object] = field(default_factory=dict)
    said_at: float = float("-inf")


class Sources:
    """Follows specs with `follow`; `run` takes, tends and gives up sources. Two owners at a time do no harm: the bus
    fences the older, and the lease only keeps processes from fencing each other for ever."""

    def __init__(self, at: Workplace, lease: Lease, lease_s: float, board: SourceBoard, spawn: Spawn) -> None:
        self._at = at
        self._lease = lease
        self._lease_s = lease_s
        self._board = board
        self._spawn = spawn
        self._specs: dict[str, Spec] = {}
        self._owned: dict[Key, _Owned] = {}
        self._kick = asyncio.Event()
        # Sources whose pulling ended by itself: not taken again at once.
        self._resting: dict[Key, float] = {}

    async def follow(self, name: str, spec: Spec | None) -> None:
        """Pull the sources of this version of a pipeline from now on; of None, no more."""
        if spec is None:
            self._specs.pop(name, None)
        else:
            self._specs[name] = spec
        self._kick.set()

    async def run(self, stop: asyncio.Event) -> None:
        try:
            while not stop.is_set():
                self._kick.clear()
                await self._tend_all()
                if not await pause(stop, LEAST_S, self._at.clock):
                    await pause(stop, min(TEND_S, self._lease_s / 4) - LEAST_S, self._at.clock, self._kick)
        finally:
            await to_the_end(self._give_up(key) for key in list(self._owned))

    async def _tend_all(self) -> None:
        wanted: dict[Key, tuple[Spec, SourceSpec]] = {
            (name, source.name): (spec, source) for name, spec in self._specs.items()
            for source in spec.pipeline.sources.pull}
        await to_the_end(self._give_up(key) for key in self._unwanted(wanted))
        await to_the_end(self._tend(key, *wanted[key]) for key in wanted)

    def _unwanted(self, wanted: dict[Key, tuple[Spec, SourceSpec]]) -> list[Key]:
        """Those no spec names any more, or names otherwise, and those another process has taken over."""
        gone = []
        for key, owned in self._owned.items():
            spec, source = wanted.get(key, (None, None))
            changed = spec is None or source != owned.source or spec.generation != owned.spec.generation
            if not owned.loop.running:
                self._resting[key] = self._at.clock.monotonic() + TEND_S
            if changed or not owned.loop.running:
                gone.append(key)
        return gone

    async def _tend(self, key: Key, spec: Spec, source: SourceSpec) -> None:
        owned = self._owned.get(key)
        try:
            if owned is None:
                if self._at.clock.monotonic() < self._resting.get(key, 0.0):
                    return
                fence = await self._lease.acquire(_lease(key), self._at.instance, self._lease_s)
                if fence is not None:
                    self._begin(key, spec, source, fence)
                return
            if owned.spec.version != spec.version:
                owned.spec = spec
                owned.pull.adopt(spec)
            if not await self._lease.renew(_lease(key), owned.fence, self._lease_s):
                log.warning("source %s/%s has another owner now", *key)
                await self._give_up(key)
                return
            await self._say(owned)
        except Unavailable as error:
            # Nobody can take it while the database is away, and if somebody does the bus fences us.
            log.warning("source %s/%s: %s", *key, error.message)

    def _begin(self, key: Key, spec: Spec, source: SourceSpec, fence: int) -> None:
        pull = Pull(self._at, spec, source, self._kick.set)
        loop = self._spawn(f"pull {key[0]}/{key[1]}", pull.run)
        self._owned[key] = _Owned(spec, source, fence, pull, loop)
        log.info("source %s/%s is pulled here", *key)

    async def _give_up(self, key: Key) -> None:
        owned = self._owned.pop(key, None)
        if owned is None:
            return
        await owned.loop.stop()
        try:
            owned.said_at = float("-inf")
            await self._say(owned)
            await self._lease.release(_lease(key), owned.fence)
        except LeptonError as error:
            # Its lease ends by itself.
            log.warning("source %s/%s was not given back: %s", *key, error.message)

    async def _say(self, owned: _Owned) -> None:
        now = self._at.clock.monotonic()
        said: dict[str, object] = {**asdict(owned.pull.standing), "kind": owned.source.kind,
                                   "instance": self._at.instance}
        if said == owned.said and now - owned.said_at < SAY_EVERY_S:
            return
        spec = owned.spec
        at_s = self._at.clock.now().timestamp()
        if await self._board.put(spec.name, spec.generation, owned.source.name, owned.fence, {**said, "at_s": at_s}):
            owned.said, owned.said_at = said, now


def _lease(key: Key) -> str:
    return f"source/{key[0]}/{key[1]}"
