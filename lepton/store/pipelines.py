"""The current specification of each pipeline, versioned, never edited in place; and how the sources it pulls stand."""

from google.protobuf.timestamp_pb2 import Timestamp

from lepton.clock import Clock
from lepton.contracts.pb.pipelines_pb2 import PipelineState
from lepton.errors import Busy, Missing, Refused
from lepton.store.announce import announced
from lepton.store.documents import Document, DocumentDatabase, Documents

_TRIES = 10


class Pipelines:
    """Written by the gateway only; each document carries the announcement of its latest version."""

    def __init__(self, database: DocumentDatabase, clock: Clock) -> None:
        self._documents = database.collection("pipelines")
        self._clock = clock

    @property
    def announcing(self) -> Documents:
        """What the relay publishes to `lepton-pipelines`."""
        return self._documents

    async def apply(self, name: str, spec_json: str, digest: str, generation: int, partitions: int,
                    by: str, *, keeps_rows: bool = False) -> PipelineState:
        """Make the specification current and return its state; an identical one changes nothing.

        `keeps_rows`: rows of the generation before fit a new one too.

        Raises Refused when `generation` is older than the stored one, or `partitions` differ within a generation.
        """
        for _ in range(_TRIES):
            current = await self._state(name)
            if current is not None:
                if _same(current, digest, generation, partitions):
                    return current
                _check(current, generation, partitions)
            state = PipelineState(
                name=name, version=(current.version if current else 0) + 1, generation=generation,
                partitions=partitions, spec_json=spec_json, spec_digest=digest, applied_by=by,
                applied_at=self._now(), rows_since_generation=_rows_since(current, generation, keeps_rows))
            if await self._write(state, current):
                return state
        raise Busy(f"pipeline {name} is being changed by others at the same time")

    async def get(self, name: str) -> PipelineState:
        """Raises Missing for a name never applied, or deleted."""
        state = await self._state(name)
        if state is None or state.deleted:
            raise Missing(f"there is no pipeline {name}")
        return state

    async def list(self) -> list[PipelineState]:
        """All that are not deleted, by name."""
        states = [_decode(document) for document in await self._documents.find({})]
        return [state for state in states if not state.deleted]

    async def delete(self, name: str, by: str = "") -> PipelineState:
        """Mark it deleted, as a new version; deleting it again changes nothing. Raises Missing for an unknown name."""
        for _ in range(_TRIES):
            current = await self._state(name)
            if current is None:
                raise Missing(f"there is no pipeline {name}")
            if current.deleted:
                return current
            state = PipelineState()
            state.CopyFrom(current)
            state.version += 1
            state.deleted = True
            state.applied_by = by
            state.applied_at.CopyFrom(self._now())
            if await self._write(state, current):
                return state
        raise Busy(f"pipeline {name} is being changed by others at the same time")

    async def _state(self, name: str) -> PipelineState | None:
        document = await self._documents.get(name)
        return None if document is None else _decode(document)

    async def _write(self, state: PipelineState, current: PipelineState | None) -> bool:
        fields = announced(state.name, state.SerializeToString(deterministic=True), state.version)
        if current is None:
            return await self._documents.insert({"_id": state.name, **fields})
        return await self._documents.swap(state.name, {"revision": current.version}, fields)

    def _now(self) -> Timestamp:
        stamp = Timestamp()
        stamp.FromDatetime(self._clock.now())
        return stamp


class SourceBoard:
    """How the sources that ingest pulls stand, for people: written by ingest only, by whoever pulls one.

    A source is known by pipeline, generation and name.
    """

    def __init__(self, database: DocumentDatabase) -> None:
        self._documents = database.collection("sources")

    async def put(self, pipeline: str, generation: int, name: str, fence: int, standing: Document) -> bool:
        """Say how it stands; False when an owner with a higher fence has said so since."""
        key = f"{pipeline}/{generation}/{name}"
        document = {"pipeline": pipeline, "generation": generation, "name": name, "fence": fence, **standing}
        if await self._documents.swap(key, {"fence": {"$lte": fence}}, document):
            return True
        return await self._documents.insert({"_id": key, **document})

    async def of(self, pipeline: str, generation: int) -> dict[str, Document]:
        """What was said last of every source of the pipeline, by name."""
        found = await self._documents.find({"pipeline": pipeline, "generation": generation})
        return {str(document["name"]): document for document in found}


def generations_of(state: PipelineState) -> range:
    """Generations whose rows fit the pipeline's current specification, the current one last."""
    return range(state.rows_since_generation or state.generation, state.generation + 1)


def _decode(document: Document) -> PipelineState:
    return PipelineState.FromString(document["announcement"])


def _rows_since(current: PipelineState | None, generation: int, keeps_rows: bool) -> int:
    if current is None or (generation != current.generation and not keeps_rows):
        return generation
    return current.rows_since_generation or current.generation


def _same(current: PipelineState, digest: str, generation: int, partitions: int) -> bool:
    return (not current.deleted and current.spec_digest == digest and current.generation == generation
            and current.partitions == partitions)


def _check(current: PipelineState, generation: int, partitions: int) -> None:
    if generation < current.generation:
        raise Refused(f"pipeline {current.name} is at generation {current.generation} already", field="generation")
    if generation == current.generation and partitions != current.partitions:
        raise Refused(
            f"pipeline {current.name} has {current.partitions} partitions, not {partitions}", field="events.partitions",
            remedy="the partition count of a generation is fixed; apply with a new generation")
