"""Candidates that are tried: what predictors told of them, and the registry moved by the verdict on it."""

import asyncio
import logging
from collections.abc import Sequence

from lepton.clock import Clock
from lepton.contracts.pb.models_pb2 import (
    ROLLOUT_STATE_PROMOTED,
    ROLLOUT_STATE_REVERTED,
    ROLLOUT_STATE_UNDECIDED,
    ModelState,
    RolloutState,
)
from lepton.contracts.pb.telemetry_pb2 import Instance, ServedArm
from lepton.errors import Busy, Missing, Unavailable
from lepton.runtime.loops import pause
from lepton.store.registry.states import Why
from services.trainer.core.rollouts.labelled import Labelled
from services.trainer.core.rollouts.verdict import Outcome, Verdict, decide, evidence
from services.trainer.flow.ports import Stores, Tell

__all__ = ["Labelled", "Rollouts"]

BY = "trainer"

_ENDS: dict[Outcome, RolloutState.ValueType] = {
    Outcome.PROMOTE: ROLLOUT_STATE_PROMOTED, Outcome.REVERT: ROLLOUT_STATE_REVERTED,
    Outcome.UNDECIDED: ROLLOUT_STATE_UNDECIDED}

log = logging.getLogger(__name__)


class Rollouts:
    """Keeps nothing that a restart must find again: the step is in the registry, the counts are told anew.

    What a predictor that is gone had told is kept while this process lives; a trainer that starts later does without.
    `labelled` is for others to fill: what labels say of each model that is tried.
    """

    def __init__(self, stores: Stores, tell: Tell, clock: Clock) -> None:
        self._stores = stores
        self._tell = tell
        self.clock = clock
        self.labelled: dict[str, Labelled] = {}
        self._told: dict[str, dict[tuple[str, str], Sequence[ServedArm]]] = {}

    async def heard(self, _: str, instance: Instance | None) -> None:
        """An instance told of itself, or is gone. Counts of one boot only grow, so the last ones are all."""
        for one in [] if instance is None else instance.models:
            if instance is not None and one.arms:
                self._told.setdefault(one.model, {})[instance.instance, instance.boot_id] = list(one.arms)

    async def watch(self, stop: asyncio.Event, every_s: float) -> None:
        """Judge again and again until `stop`. Two trainers that do so at once do no harm."""
        while not await pause(stop, every_s, self.clock):
            try:
                await self.look()
            except (Unavailable, Busy) as error:
                self._tell.trouble("rollouts_not_judged", str(error), "models")

    async def look(self) -> None:
        """Judge every rollout that is under way. Raises Unavailable or Busy."""
        trying = {state.model: state for state in await self._stores.models.trying()}
        for model in self._told.keys() - trying.keys():
            # Counts of the next rollout name its own step.
            del self._told[model]
        self.labelled = {model: self._labelled(state) for model, state in trying.items()}
        for state in trying.values():
            verdict = self._verdict(state)
            if verdict.outcome is not Outcome.WAIT:
                await self._carry_out(state, verdict)

    def _labelled(self, state: ModelState) -> Labelled:
        kept, rollout = self.labelled.get(state.model), state.rollout
        if kept is not None and (kept.champion, kept.candidate) == (rollout.champion, rollout.candidate):
            return kept
        return Labelled(rollout.champion, rollout.candidate)

    def _verdict(self, state: ModelState) -> Verdict:
        told = [arm for arms in self._told.get(state.model, {}).values() for arm in arms]
        elapsed_s = self.clock.now().timestamp() - state.rollout.step_at.ToNanoseconds() / 1e9
        return decide(state.rollout, evidence(state.rollout, told, self.labelled.get(state.model)), elapsed_s)

    async def _carry_out(self, state: ModelState, verdict: Verdict) -> None:
        rollout, models = state.rollout, self._stores.models
        try:
            if verdict.outcome is Outcome.STEP:
                await models.step_on(state.model, rollout.since, verdict.reason)
            else:
                await models.end_rollout(state.model, rollout.since, _ENDS[verdict.outcome],
                                         Why(BY, verdict.reason))
        except Missing as error:
            log.info("the rollout of %s is over: %s", state.model, error)
            return
        log.info("%s v%d: %s, %s", state.model, rollout.candidate, verdict.outcome.value, verdict.reason)
        self._tell.announce()
