"""The model registry: one document a model, changed by compare-and-set, carrying its own signed announcement."""

from collections.abc import Callable, Collection, Mapping

from google.protobuf.timestamp_pb2 import Timestamp

from lepton.clock import Clock
from lepton.contracts.pb.models_pb2 import ModelState, ModelVersion, Rollout, RolloutState
from lepton.errors import Busy, Missing, Refused
from lepton.store.announce import announced
from lepton.store.documents import Document, DocumentDatabase, Documents
from lepton.store.registry import rollouts, states
from lepton.store.registry.states import Why

_TRIES = 10

# Sets `key_id` and `signature` of the state it is given.
Sign = Callable[[ModelState], None]

NOBODY = Why()


class Models:
    """Written by the trainer only. Versions never change; the newest `keep` and those in use stay in the state."""

    def __init__(self, database: DocumentDatabase, clock: Clock, sign: Sign, keep: int = 10) -> None:
        self._documents = database.collection("models")
        self._clock = clock
        self._sign = sign
        self._keep = keep

    @property
    def announcing(self) -> Documents:
        """What the relay publishes to `lepton-models`."""
        return self._documents

    async def state(self, model: str) -> ModelState:
        """Raises Missing for a model nothing was published for."""
        document = await self._documents.get(model)
        if document is None:
            raise Missing(f"there is no model {model}")
        return ModelState.FromString(document["announcement"])

    async def trying(self) -> list[ModelState]:
        """Models with a rollout under way, by name."""
        return [ModelState.FromString(document["announcement"])
                for document in await self._documents.find({"tries": True})]

    async def list(self) -> list[ModelState]:
        """All models, by name."""
        return [ModelState.FromString(document["announcement"]) for document in await self._documents.find({})]

    async def next_version(self, model: str) -> int:
        """The number the next version must have."""
        document = await self._documents.get(model)
        return 1 if document is None else int(document["last_version"]) + 1

    async def publish(self, model: str, version: ModelVersion, promote: bool, fence: int, *, why: Why = NOBODY,
                      also: Collection[int] = (), rollout: Rollout | None = None) -> ModelState:
        """Add a version and, when `promote`, make it champion; a second version of the same run has no effect.

        With a `rollout` (its strategy and terms) it is tried beside the champion first, where there is one to compare
        it with; while another candidate is tried it is only kept.

        Old versions are forgotten, but none that anything refers to or that `also` names. Raises Refused when `fence`
        is older than one already used for this model, when the number is not the next, or when a rejected version is
        to be promoted.
        """
        if promote and version.status != states.READY:
            raise Refused(f"version {version.version} of {model} is not ready and cannot be promoted", field="promote")

        def change(state: ModelState) -> bool:
            if any(_same(kept, version) for kept in state.versions):
                return False
            state.versions.add().CopyFrom(version)
            state.reason = "rejected" if version.status == states.REJECTED else "published"
            if promote and not (rollout and rollouts.takes(state, version, rollout, self._now(), why)):
                states.crown(state, version.version, self._now(), "published", why)
            states.forget_old(state, self._keep, also)
            return True

        return await self._change(model, change, fence=fence, number=version.version)

    async def promote(self, model: str, version: int, fence: int | None = None, why: Why = NOBODY) -> ModelState:
        """Make a kept version champion; one that is champion already stays so.

        A rolled-back version may be promoted here: this is the person's decision that it takes. Raises Missing for a
        version that is not kept, Refused for a rejected or retired one or an old fence.
        """
        return await self._change(model, lambda state: states.promote(state, version, self._now(), why), fence=fence)

    async def roll_back(self, model: str, from_version: int, fence: int | None = None,
                        why: Why = NOBODY) -> ModelState:
        """Leave `from_version` for the champion before it; if that was done already, nothing changes.

        Raises Refused when `from_version` is not the champion, there is no champion before it, or the fence is old.
        """
        return await self._change(model, lambda state: states.roll_back(state, from_version, self._now(), why),
                                  fence=fence)

    async def step_on(self, model: str, since: int, note: str) -> ModelState:
        """Have the candidate of the rollout's step `since` answer the next share; another step changes nothing."""
        return await self._change(model, lambda state: rollouts.step_on(state, since, self._now(), note))

    async def end_rollout(self, model: str, since: int, verdict: RolloutState.ValueType, why: Why) -> ModelState:
        """End the rollout that is in step `since`, the candidate champion when it is promoted; once over, no effect.

        `since` 0: whichever step it is in; raises Refused then when none is under way.
        """
        return await self._change(model, lambda state: rollouts.end(state, since, verdict, self._now(), why))

    async def retire(self, model: str, version: int) -> ModelState:
        """Take a version out of use for good; again it changes nothing.

        Raises Missing for a version that is not kept, Refused for the champion.
        """
        return await self._change(model, lambda state: states.retire(state, version))

    async def tag(self, model: str, version: int, tags: Mapping[str, str]) -> ModelState:
        """Set tags of a version, an empty value takes one away. Raises Missing, Invalid or Refused."""
        return await self._change(model, lambda state: states.tag(state, version, tags))

    async def forget_retired(self, model: str, also: Collection[int] = ()) -> ModelState:
        """Drop retired versions nothing refers to; `also` names those that runs wait for."""
        return await self._change(model, lambda state: states.forget_retired(state, also))

    async def _change(self, model: str, change: Callable[[ModelState], bool], *, fence: int | None = None,
                      number: int | None = None) -> ModelState:
        for _ in range(_TRIES):
            document = await self._documents.get(model)
            if document is None and number is None:
                raise Missing(f"there is no model {model}")
            state = ModelState(model=model) if document is None else ModelState.FromString(document["announcement"])
            seen = 0 if document is None else int(document["fence"])
            if fence is not None and fence < seen:
                raise Refused(f"fence {fence} of model {model} is older than {seen}", field="fence",
                              remedy="stop working on it; another owner has it")
            before = state.revision
            if not change(state):
                return state
            last = 0 if document is None else int(document["last_version"])
            if number is not None and number != last + 1:
                raise Refused(f"the next version of {model} is {last + 1}, not {number}", field="version")
            self._stamp_and_sign(state, before + 1)
            fields = {"fence": max(seen, fence or 0), "last_version": number or last, "tries": states.tried(state) != 0,
                      **announced(model, state.SerializeToString(deterministic=True), state.revision)}
            if await self._write(model, document, fields):
                return state
        raise Busy(f"model {model} is being changed by others at the same time")

    async def _write(self, model: str, document: Document | None, fields: Document) -> bool:
        if document is None:
            return await self._documents.insert({"_id": model, **fields})
        return await self._documents.swap(model, {"revision": document["revision"]}, fields)

    def _stamp_and_sign(self, state: ModelState, revision: int) -> None:
        state.revision = revision
        state.changed_at.CopyFrom(self._now())
        self._sign(state)

    def _now(self) -> Timestamp:
        stamp = Timestamp()
        stamp.FromDatetime(self._clock.now())
        return stamp


def _same(kept: ModelVersion, version: ModelVersion) -> bool:
    """Whether both are the work of one run: of two owners of a run, each believing to hold it, one publishes."""
    run_id = version.manifest.lineage.run_id
    return (kept.version == version.version and kept.signature == version.signature) or (
        run_id != "" and kept.manifest.lineage.run_id == run_id)
