"""Which versions of which models are here: taken up from the registry verified and warm, kept, and let go."""

import asyncio
import logging
import re
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime

from lepton.clock import Clock
from lepton.contracts.modelling.serving import Serve
from lepton.contracts.pb import models_pb2
from lepton.contracts.signing import verify_manifest, verify_message
from lepton.errors import Busy, Missing, Refused, Unavailable
from services.predictor.core.batching.limits import Limits, limits_of
from services.predictor.core.engine import Engine, Setup
from services.predictor.core.rollout.arms import Trial, tries
from services.predictor.core.room import Room
from services.predictor.core.slots import Lease, Slots
from services.predictor.flow.files import Sources
from services.predictor.flow.parking import PARKED, Parking, Shown, Standing, bare, check_current

LOADS_AT_ONCE = 4
"""Versions taken up from the registry at the same time at most: each is in memory twice meanwhile."""

_NUMBER = re.compile(r"[0-9]{1,18}")

log = logging.getLogger(__name__)


class Library:
    """Belongs to the event loop."""

    def __init__(self, sources: Sources, setup: Setup, clock: Clock, room: Room | None = None) -> None:
        self._sources = sources
        self._setup = setup
        self._clock = clock
        self._slots: Slots[Engine] = Slots()
        self._limits: dict[str, Limits] = {}
        self._standings: dict[str, Standing] = {}
        self._trials: dict[str, Trial] = {}
        self._loads = asyncio.Semaphore(LOADS_AT_ONCE)
        self._unsound: deque[tuple[str, int, int]] = deque()
        self.parking = Parking(room or Room(), self._slots, self._standings, self._trials, self._bring, clock)

    def watch(self, changed: Callable[[], None]) -> None:
        """Have `changed` called after each change of which version answers a request, and how it is batched."""
        self._slots.changed = changed

    async def adopt(self, state: models_pb2.ModelState) -> None:
        """Serve what a registry state names, try its candidate beside it, and keep the champion before it in memory.

        Raises Refused when the state or a version does not hold: what answered before goes on answering. Raises
        Unavailable when the model file cannot be had now: call again; Missing when the model was forgotten meanwhile.
        A revision already passed changes nothing. Of the champion before nothing is raised: see `unkept`.
        """
        verify_message(self._sources.trust, "trainer", state, self._clock.now())
        standing = self._standings.setdefault(state.model, Standing())
        async with standing.turn:
            await self._take_up(state, standing)

    async def load(self, model: str) -> None:
        """Serve again what the registry names; no more than that where it is served.

        Raises Missing for a model the registry has not, and what `adopt` raises.
        """
        standing = self._known(model)
        if standing.state is None:
            raise Unavailable(f"`{model}` is not loaded: {standing.reason}", remedy="send again later")
        async with standing.turn:
            if standing.unloaded:
                standing.unloaded, standing.settled, standing.reason = False, False, "it is being loaded"
                log.warning("%s is loaded again by an operator", model)
            await self._take_up(standing.state, standing)
        if not self._slots.serving(model):
            raise Unavailable(f"`{model}` is not loaded: {standing.reason}", remedy="publish the model again")

    async def unload(self, model: str) -> None:
        """Answer nothing with the model until `load` or a restart, and free its memory.

        Raises Missing for a model the registry has not, Refused while a pipeline's stream is scored with it: its rows
        would wait, or pass without an answer.
        """
        standing = self._known(model)
        if model in self._limits:
            raise Refused(f"the stream of pipeline `{model}` is scored with this model", field="model_name",
                          remedy="roll the model back, or delete the pipeline")
        async with standing.turn:
            standing.unloaded, standing.settled = True, True
            standing.unpark()
            standing.reason = "an operator unloaded it here"
            self._trials.pop(model, None)
            self._slots.forget(model)
        log.warning("%s is unloaded by an operator", model)

    async def fall_back(self, model: str, leaving: int, issued: datetime) -> str:
        """Have the champion before answer instead of `leaving` until the registry names another; what was done.

        Raises Missing for a model the registry has not, Refused where `leaving` is not its champion, was made it after
        the command was `issued`, or nothing went before it; Busy and Unavailable when that cannot be loaded now.
        """
        standing = self._known(model)
        async with standing.turn:
            state = standing.state
            if state is None or state.champion != leaving:
                raise Refused(f"version {leaving} of {model} is not the champion", field="arguments.from_version",
                              remedy=f"the champion is version {standing.champion}")
            if state.champions and state.champions[-1].since.ToDatetime(UTC) > issued:
                # A process that reads the log from its beginning must not obey what others have long left behind.
                raise Refused(f"version {leaving} of {model} was promoted after the command was issued",
                              field="issued_at", remedy="issue it again, if that version is to be left again")
            if not state.previous_champion or standing.unloaded:
                raise Refused(f"nothing of {model} can answer instead of version {leaving}", field="target",
                              remedy="train or promote another version")
            await self._bring(state, state.previous_champion)
            standing.left = leaving
            self._answer_before(state, standing)
        return f"version {state.previous_champion} of {model} answers instead of version {leaving}"

    async def restore(self, model: str) -> str:
        """Have the registry's champion answer again; what was done. Raises Missing, and what `adopt` raises."""
        standing = self._known(model)
        async with standing.turn:
            left, standing.left = standing.left, 0
            if left and standing.state is not None:
                await self._take_up(standing.state, standing)
        return f"version {standing.champion} of {model} answers" + ("" if left else ", as it did before")

    def _answer_before(self, state: models_pb2.ModelState, standing: Standing) -> None:
        """The version before, which is in memory, answers; the one that was left stays for its return."""
        self._trials.pop(state.model, None)
        self._slots.flip(state.model, state.previous_champion, frozenset({state.champion}))
        standing.settled = True
        standing.reason = f"it fell back from version {state.champion}, until that is replaced or restored"
        standing.unpark()
        log.warning("%s: v%d answers, v%d was left by command", state.model, state.previous_champion, state.champion)

    def _known(self, model: str) -> Standing:
        standing = self._standings.get(model)
        if standing is None:
            raise Missing(f"the registry has no model `{model}`", field="model_name", remedy="publish it first")
        return standing

    async def _take_up(self, state: models_pb2.ModelState, standing: Standing) -> None:
        if state.revision < standing.revision:
            return
        if state.revision > standing.revision:
            standing.revision, standing.champion, standing.settled = state.revision, state.champion, False
            standing.refused, standing.lost = 0, ""
        standing.state, standing.unkept = state, None
        check_current(self._standings, state)
        tried, trial = state.rollout.candidate if tries(state) else 0, self._trials.get(state.model)
        if trial is not None and (trial.candidate, trial.champion) != (tried, state.champion):
            del self._trials[state.model]
            self._slots.changed()
        if standing.unloaded:
            standing.settled = True
            return
        self.parking.asked(state.model)
        if not state.champion:
            standing.unpark()
            self._slots.forget(state.model)
            standing.settled, standing.reason = True, "the registry names no champion"
            return
        if standing.left == state.champion and state.previous_champion:
            await self._bring(state, state.previous_champion)
            self._answer_before(state, standing)
            return
        standing.left = 0
        try:
            await self._queue(state, state.champion)
        except (Refused, Unavailable) as error:
            standing.fail(error)
            await self._stand_in(state)
            raise
        self._slots.flip(state.model, state.champion, frozenset({state.previous_champion, tried}))
        standing.settled, standing.reason, standing.refused, standing.lost = True, "", 0, ""
        standing.unpark()
        try:
            if tried:
                await self._try(state)
        except (Refused, Busy, Unavailable):
            standing.unkept = await self._keep(state)
            raise
        standing.unkept = await self._keep(state)

    def forget(self, model: str) -> None:
        """The registry has the model no more."""
        self._standings.pop(model, None)
        self._trials.pop(model, None)
        self.parking.forget(model)
        self._slots.forget(model)

    def configure(self, model: str, serve: Serve | None) -> None:
        """How requests wait and run from now on; None: by default."""
        if serve:
            self._limits[model] = limits_of(serve)
        else:
            self._limits.pop(model, None)
        for version in self._slots.resident(model):
            with self._slots.lease(model, version) as engine:
                engine.limit(self._limits.get(model, Limits()))
        self._slots.changed()

    def levels(self, model: str) -> int:
        """Priority levels that its requests may name; 0 where there are none."""
        return self._limits.get(model, Limits()).priority_levels

    def trial(self, model: str) -> Trial | None:
        """The rollout this process takes part in, for what both versions do to be counted; None while there is none."""
        return self._trials.get(model)

    def lease(self, model: str, version: str = "", key: str = "") -> Lease[Engine]:
        """The right to use the version that answers, or the one named as in the protocol.

        While a candidate is tried and no version is named, `key` decides: the entity the request is about, or its id.
        Raises Missing when there is no such model or version, Unavailable when the registry has the model but none of
        its versions is in memory.
        """
        if version and not _NUMBER.fullmatch(version):
            raise Missing(f"`{version}` is no version of `{model}`", field="version", remedy="send a number, or none")
        trial = None if version else self._trials.get(model)
        try:
            return self._slots.lease(model, trial.candidate if trial and trial.picks(key) else int(version or 0))
        except Missing:
            standing = self._standings.get(model)
            if standing is None or self._slots.serving(model):
                raise
            raise Unavailable(f"no version of `{model}` answers: {standing.reason}", field="model",
                              remedy="send again later") from None

    def serving(self, model: str) -> int:
        """The version that answers; 0 when none does."""
        return self._slots.serving(model)

    def awaits(self, model: str) -> bool:
        """Whether nothing of the model answers yet although the registry names a champion that may still load."""
        standing = self._standings.get(model)
        return (standing is not None and standing.champion != 0 and not standing.settled
                and not self._slots.serving(model))

    def models(self) -> list[str]:
        """Models with a version in memory."""
        return self._slots.models()

    def resident(self, model: str) -> list[int]:
        return list(self._slots.resident(model))

    def before(self, model: str) -> int:
        """The champion before, where it is in memory; 0 where it is not."""
        standing = self._standings.get(model)
        state = standing.state if standing is not None else None
        number = state.previous_champion if state is not None else 0
        return number if number in self._slots.resident(model) else 0

    def unsound(self, model: str, version: int, rows: int) -> None:
        """So many rows were answered with what is no number. May be called from any thread."""
        if rows:
            self._unsound.append((model, version, rows))

    def take_unsound(self) -> dict[tuple[str, int], int]:
        """Those rows since the last call, by model and version."""
        found: dict[tuple[str, int], int] = {}
        while self._unsound:
            model, version, rows = self._unsound.popleft()
            found[model, version] = found.get((model, version), 0) + rows
        return found

    def unkept(self, model: str) -> Refused | Unavailable | None:
        """Why the champion before is not in memory, so that a roll back would have to load it; None where nothing is
        wrong. Unavailable may pass: `adopt` again."""
        standing = self._standings.get(model)
        return None if standing is None else standing.unkept

    def refused(self) -> list[tuple[str, int, str, str]]:
        """Champions that do not hold: model, version, why, and the SHA-256 of its file where that is lost."""
        return [(model, standing.refused, standing.reason, standing.lost)
                for model, standing in sorted(self._standings.items()) if standing.refused]

    def take_work(self) -> dict[str, tuple[int, int]]:
        """Batches and rows run for requests since the last call, by model; models that did nothing left out."""
        found: dict[str, tuple[int, int]] = {}
        for engine in self._slots.engines():
            batches, rows = engine.take_work()
            before = found.get(engine.manifest.model, (0, 0))
            if batches:
                found[engine.manifest.model] = (before[0] + batches, before[1] + rows)
        return found

    def waiting_rows(self) -> int:
        """Rows of requests that wait for a batch."""
        return sum(engine.waiting_rows for engine in self._slots.engines())

    def in_use(self) -> int:
        """Requests that are being answered."""
        return self._slots.leases()

    def shown(self) -> list[Shown]:
        """Every model the registry has, with each version in memory; one without any says why."""
        found = []
        for model, standing in sorted(self._standings.items()):
            serving = self._slots.serving(model)
            for version in self._slots.resident(model):
                with self._slots.lease(model, version) as engine:
                    found.append(Shown(model, version, standing.revision, version == serving, standing.settled,
                                       standing.reason if version == serving else "", engine.provider))
            if standing.parked:
                found.append(Shown(model, standing.parked, standing.revision, True, True, PARKED, "", parked=True))
            elif not self._slots.resident(model):
                found.append(Shown(model, 0, standing.revision, False, standing.settled, standing.reason, ""))
        return found

    async def _try(self, state: models_pb2.ModelState) -> None:
        """Let the candidate take part, or say why it cannot. Raises Refused then, Unavailable when to call again."""
        rollout, standing = state.rollout, self._standings[state.model]
        if standing.trial is None or not standing.trial.is_of(rollout):
            standing.trial = Trial(state.model, rollout)
        trial = standing.trial
        arm = trial.arms[rollout.candidate]
        try:
            await self._queue(state, rollout.candidate)
            with self._slots.lease(state.model, rollout.candidate) as engine, \
                    self._slots.lease(state.model, state.champion) as champion:
                if engine.signature != champion.signature:
                    raise Refused("the candidate takes or gives other tensors than the champion", field="rollout",
                                  remedy="promote it, or end its rollout")
        except Refused as refused:
            arm.refused = str(refused)
            raise
        finally:
            if self._standings.get(state.model) is not standing:
                pass  # the registry took the model away meanwhile
            elif arm.refused or rollout.candidate in self._slots.resident(state.model):
                self._trials[state.model] = trial
                self._slots.changed()

    async def _stand_in(self, state: models_pb2.ModelState) -> None:
        """Where nothing answers, the champion before is better than no answer: it was good once."""
        if self._slots.serving(state.model) or not state.previous_champion:
            return
        try:
            await self._queue(state, state.previous_champion)
        except (Refused, Unavailable) as error:
            log.warning("the champion before cannot stand in: %s", error)
            return
        self._slots.flip(state.model, state.previous_champion)

    async def _bring(self, state: models_pb2.ModelState, number: int) -> None:
        """Have a version in memory, verified and warm."""
        if number in self._slots.resident(state.model):
            return
        version = next((one for one in state.versions if one.version == number), None)
        if version is None or version.model != state.model or version.status == models_pb2.VERSION_STATUS_REJECTED:
            raise Refused(f"the registry names version {number} of {state.model}, but keeps none that may be served",
                          field="champion", remedy="publish the model again")
        verify_manifest(self._sources.trust, version, self._clock.now())
        check_current(self._standings, state)
        data = await self._sources.file(version.manifest)
        engine = await self.parking.load(version.manifest, lambda: self._loaded(version.manifest, data))
        check_current(self._standings, state, engine)
        self._slots.put(state.model, number, engine)

    async def _queue(self, state: models_pb2.ModelState, number: int) -> None:
        """The same for what the registry names, which may be many models at once; commands and requests go first."""
        if number not in self._slots.resident(state.model):
            async with self._loads:
                await self._bring(state, number)

    async def install(self, manifest: models_pb2.ModelManifest, data: bytes) -> None:
        """Serve one version, whose signatures the caller has verified, without a registry. Raises Refused."""
        self._slots.put(manifest.model, manifest.version, await self._loaded(manifest, data))
        self._slots.flip(manifest.model, manifest.version)
        self._standings[manifest.model] = Standing(champion=manifest.version, settled=True, reason="")

    async def _loaded(self, manifest: models_pb2.ModelManifest, data: bytes) -> Engine:
        limits = self._limits.get(manifest.model, Limits())
        try:
            engine = await asyncio.to_thread(Engine.load, manifest, data, self._setup, limits, self._clock)
        except (Refused, Unavailable):
            raise
        except Exception as error:
            # Whatever one file makes the loader raise, the process goes on serving the others.
            log.exception("loading %s v%d", manifest.model, manifest.version)
            raise Refused(f"loading failed: {type(error).__name__}: {error}",
                          remedy="publish the model again") from error
        log.info("%s v%d is in memory: %s, %s", manifest.model, manifest.version, engine.provider,
                 ", ".join(f"{name} {value}" for name, value in engine.measured.items()))
        return engine

    async def _keep(self, state: models_pb2.ModelState) -> Refused | Unavailable | None:
        """Have the champion before in memory, for a roll back without a load, where there is room. What is wrong with
        it is returned: it is nothing that the version that answers, or the one that is tried, must suffer for."""
        try:
            if state.previous_champion:
                await self._queue(state, state.previous_champion)
        except Busy as busy:
            log.info("the champion before %s is not kept in memory: %s", state.model, busy)
        except (Refused, Unavailable) as error:
            return bare(error)
        return None
