"""From a worker's result to the registry: verdict of the gate, signatures, artefacts, one immutable version a run."""

import json
import logging
from dataclasses import dataclass
from importlib import resources

from google.protobuf.json_format import ParseDict

from lepton.clock import Clock
from lepton.contracts.bundles import exported, modelsigning
from lepton.contracts.pb.models_pb2 import (
    ROLLOUT_STRATEGY_AB,
    ROLLOUT_STRATEGY_CANARY,
    ROLLOUT_STRATEGY_SHADOW,
    VERSION_STATUS_READY,
    VERSION_STATUS_REJECTED,
    ModelManifest,
    ModelVersion,
    Rollout,
    RolloutStrategy,
    RolloutTerms,
)
from lepton.contracts.signing import Identity, sign_manifest
from lepton.errors import Missing
from lepton.store.artifacts import sha256_hex
from lepton.store.registry.garbage import MODEL_FILES, Garbage, named_in
from lepton.store.registry.states import Why
from lepton.store.runs import WAITING, ClaimedRun
from services.trainer.core.gate import Verdict, decide
from services.trainer.core.plan import Plan
from services.trainer.flow.ports import RECOVERY, Folder, Stores, Tell

log = logging.getLogger(__name__)

STRATEGIES: dict[str, RolloutStrategy.ValueType] = {
    "canary": ROLLOUT_STRATEGY_CANARY, "shadow": ROLLOUT_STRATEGY_SHADOW, "ab": ROLLOUT_STRATEGY_AB}
MODEL, WEIGHTS, CARD, RESULT = "model.onnx", "weights.npz", "card.zip", "result.json"


@dataclass(frozen=True, slots=True)
class Published:
    """A version in the registry; `reasons` say why its gate kept it out, empty when it passed."""

    version: ModelVersion
    champion: bool
    reasons: tuple[str, ...]


class ChampionChanged(Exception):
    """Another version answers now than the one the candidate was measured against."""


class Publisher:
    """The only writer of new versions. What it does for a run twice has one effect."""

    def __init__(self, stores: Stores, identity: Identity, lease_s: float, tell: Tell, clock: Clock) -> None:
        self._stores = stores
        self._lease_s = lease_s
        self._identity = identity
        self._tell = tell
        self._clock = clock
        self._garbage = Garbage(stores.models.list, stores.runs, stores.artifacts)

    async def published(self, run: ClaimedRun) -> Published | None:
        """What this run published before its last owner was stopped."""
        try:
            state = await self._stores.models.state(run.command.model)
        except Missing:
            return None
        for version in state.versions:
            if version.manifest.lineage.run_id == run.run_id:
                rejected = version.status == VERSION_STATUS_REJECTED
                return Published(version, state.champion == version.version,
                                 ("it did not pass its gate",) if rejected else ())
        return None

    async def publish(self, run: ClaimedRun, plan: Plan, folder: Folder) -> Published:
        """Raises Refused when the run's fence is old, ChampionChanged when the verdict holds no more."""
        result = json.loads(await _needed(folder, RESULT))
        manifest = ParseDict(result["manifest"], ModelManifest())
        for warning in result["warnings"]:
            log.warning("%s of %s: %s", run.run_id, plan.model, warning)
        verdict = decide(plan.gate, manifest.metrics, manifest.champion_metrics if result["compared"] else None,
                         manifest.shrinking if manifest.HasField("shrinking") else None, plan.evaluate.fairness)
        promote = verdict.passed and plan.promote
        if promote and await self._champion(plan.model) != plan.champion_version:
            raise ChampionChanged
        version = await self._signed(manifest, verdict)
        model, card = await _needed(folder, MODEL), await _needed(folder, CARD) if manifest.card_sha256 else None
        beside = exported.beside(self._identity, version, model, card, _program())
        version.model_signing_sha256 = sha256_hex(beside)
        # What was imported has no weights that could be continued.
        weights = await _needed(folder, WEIGHTS) if manifest.lineage.weights_sha256 else None
        files = [model, beside, *([] if weights is None else [weights]), *([] if card is None else [card])]
        # Noted before they are stored: whoever ends the run removes those that no version names.
        await self._stores.runs.note(run.run_id, run.fence, [sha256_hex(file) for file in files])
        for file in files:
            await self._stores.artifacts.put(file, MODEL_FILES)
        # A fence that is old by now is found out here; the registry knows only those that were used on it.
        await self._stores.runs.renew(run.run_id, run.fence, self._lease_s)
        also = await self._garbage.waited_for(plan.model)
        state = await self._stores.models.publish(plan.model, version, promote, run.fence, also=also,
                                                  why=Why(run.run_id, _measured(plan, manifest)),
                                                  rollout=_rollout(plan))
        self._tell.announce()
        mine = next(one for one in state.versions if one.manifest.lineage.run_id == run.run_id)
        return Published(mine, state.champion == mine.version, verdict.reasons)

    async def discard(self, run: ClaimedRun) -> None:
        """Remove what any owner of the run stored and no version of any model names."""
        stored = await self._stores.runs.noted(run.run_id)
        if stored:
            named = named_in(await self._stores.models.list())
            for digest in sorted(stored - named):
                await self._stores.artifacts.delete(digest)

    async def discard_late(self, run: ClaimedRun) -> None:
        """The same for an owner that stored something after it had lost the run, if the run is over by now.

        While it goes on, its new owner may be about to publish these very bytes, and will remove them otherwise.
        """
        if (await self._stores.runs.get(run.run_id)).progress.state not in WAITING:
            await self.discard(run)

    async def _champion(self, model: str) -> int:
        try:
            return (await self._stores.models.state(model)).champion
        except Missing:
            return 0

    async def _signed(self, manifest: ModelManifest, verdict: Verdict) -> ModelVersion:
        number = await self._stores.models.next_version(manifest.model)
        manifest.version = number
        manifest.created_at.FromDatetime(self._clock.now())
        manifest.model_signing_key = modelsigning.public_key_of(self._identity)
        version = ModelVersion(model=manifest.model, version=number, manifest=manifest,
                               status=VERSION_STATUS_READY if verdict.passed else VERSION_STATUS_REJECTED)
        sign_manifest(self._identity, version)
        return version


def _program() -> bytes:
    """Read, not imported: it needs onnxruntime, which this process does not have."""
    return resources.files("services.trainer.core.export").joinpath("offline.py").read_bytes()


async def _needed(folder: Folder, name: str) -> bytes:
    data = await folder.read(name)
    if data is None:
        raise RuntimeError(f"the run's folder has a result but no {name}")
    return data


def _rollout(plan: Plan) -> Rollout | None:
    """How the Pipeline has a candidate tried; None: not at all. What was trained to heal has no time to be tried."""
    if plan.rollout == "immediate" or plan.reason == RECOVERY:
        return None
    trial = plan.trial
    shares = trial.shares[-1:] if plan.rollout == "ab" else trial.shares
    return Rollout(strategy=STRATEGIES[plan.rollout], terms=RolloutTerms(
        shares=shares, step_s=trial.step_s, min_answers=trial.min_answers, max_failures=trial.max_failures,
        max_slower=trial.max_slower, min_agreement=trial.min_agreement, significance=trial.significance,
        limit_s=trial.limit_s))


def _measured(plan: Plan, manifest: ModelManifest) -> str:
    """Why a candidate answers from now on: the gate's figure, beside the champion's."""
    metric = plan.gate.metric
    found, before = manifest.metrics.get(metric), manifest.champion_metrics.get(metric)
    if found is None:
        return "it passed its gate"
    return f"{metric} {found:.4g}" + ("" if before is None else f", the champion's on the same rows {before:.4g}")
