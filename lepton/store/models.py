"""The model registry: one document a model, changed by compare-and-set, carrying its own signed announcement."""

from collections.abc import Callable

from google.protobuf.timestamp_pb2 import Timestamp

from lepton.clock import Clock
from lepton.contracts.pb.models_pb2 import ModelState, ModelVersion, VersionStatus
from lepton.errors import Busy, Missing, Refused
from lepton.store.announce import announced
from lepton.store.documents import Document, DocumentDatabase, Documents

_TRIES = 10

# Sets `key_id` and `signature` of the state it is given.
Sign = Callable[[ModelState], None]

_READY = VersionStatus.VERSION_STATUS_READY
_REJECTED = VersionStatus.VERSION_STATUS_REJECTED
_ROLLED_BACK = VersionStatus.VERSION_STATUS_ROLLED_BACK


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

    async def list(self) -> list[ModelState]:
        """All models, by name."""
        return [ModelState.FromString(document["announcement"]) for document in await self._documents.find({})]

    async def next_version(self, model: str) -> int:
        """The number the next version must have."""
        document = await self._documents.get(model)
        return 1 if document is None else int(document["last_version"]) + 1

    async def publish(self, model: str, version: ModelVersion, promote: bool, fence: int) -> ModelState:
        """Add a version and, when `promote`, make it champion; a second version of the same run has no effect.

        Raises Refused when `fence` is older than one already used for this model, when the number is not the next,
        or when a rejected version is to be promoted.
        """
        if promote and version.status != _READY:
            raise Refused(f"version {version.version} of {model} is not ready and cannot be promoted", field="promote")

        def change(state: ModelState) -> bool:
            if any(_same(kept, version) for kept in state.versions):
                return False
            state.versions.add().CopyFrom(version)
            state.reason = "rejected" if version.status == _REJECTED else "published"
            if promote:
                _make_champion(state, version.version)
            _forget_old(state, self._keep)
            return True

        return await self._change(model, change, fence=fence, number=version.version)

    async def promote(self, model: str, version: int, fence: int | None = None) -> ModelState:
        """Make a kept version champion; one that is champion already stays so.

        A rolled-back version may be promoted here: this is the person's decision that it takes. Raises Missing for a
        version that is not kept, Refused for a rejected one or an old fence.
        """

        def change(state: ModelState) -> bool:
            kept = _kept(state, version)
            if kept.status == _REJECTED:
                raise Refused(f"version {version} of {model} did not pass its gate", field="version")
            if state.champion == version:
                return False
            kept.status = _READY
            _make_champion(state, version)
            state.reason = "promoted"
            return True

        return await self._change(model, change, fence=fence)

    async def roll_back(self, model: str, from_version: int, fence: int | None = None) -> ModelState:
        """Leave `from_version` for the champion before it; if that was done already, nothing changes.

        Raises Refused when `from_version` is not the champion, there is no champion before it, or the fence is old.
        """

        def change(state: ModelState) -> bool:
            if state.champion != from_version:
                if _kept(state, from_version).status == _ROLLED_BACK:
                    return False
                raise Refused(f"version {from_version} of {model} is not the champion", field="from_version")
            if not state.previous_champion:
                raise Refused(f"{model} has no version before {from_version} to go back to", field="from_version",
                              remedy="retrain the model")
            _kept(state, from_version).status = _ROLLED_BACK
            state.champion, state.previous_champion = state.previous_champion, 0
            state.reason = "rolled_back"
            return True

        return await self._change(model, change, fence=fence)

    async def _change(self, model: str, change: Callable[[ModelState], bool], *, fence: int | None,
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
            fields = {"fence": max(seen, fence or 0), "last_version": number or last,
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
        stamp = Timestamp()
        stamp.FromDatetime(self._clock.now())
        state.changed_at.CopyFrom(stamp)
        self._sign(state)


def _same(kept: ModelVersion, version: ModelVersion) -> bool:
    """Whether both are the work of one run: of two owners of a run, each believing to hold it, one publishes."""
    run_id = version.manifest.lineage.run_id
    return (kept.version == version.version and kept.signature == version.signature) or (
        run_id != "" and kept.manifest.lineage.run_id == run_id)


def _kept(state: ModelState, version: int) -> ModelVersion:
    for kept in state.versions:
        if kept.version == version:
            return kept
    raise Missing(f"version {version} of {state.model} is not kept", field="version")


def _make_champion(state: ModelState, version: int) -> None:
    if state.champion and state.champion != version:
        state.previous_champion = state.champion
    state.champion = version


def _forget_old(state: ModelState, keep: int) -> None:
    """Drop the oldest beyond `keep`, but none that answers, answered before, or that the champion grew from."""
    needed = {state.champion, state.previous_champion}
    needed |= {kept.manifest.lineage.parent_version for kept in state.versions if kept.version == state.champion}
    newest = sorted((kept.version for kept in state.versions), reverse=True)[:keep]
    stay = [kept for kept in state.versions if kept.version in needed or kept.version in newest]
    if len(stay) < len(state.versions):
        copies = [ModelVersion.FromString(kept.SerializeToString()) for kept in stay]
        del state.versions[:]
        state.versions.extend(copies)
