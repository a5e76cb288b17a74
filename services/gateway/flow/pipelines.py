"""Which pipelines there are, and how one comes to be, changes and ends."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lepton.bus.commands.audit import Audit
from lepton.bus.records import Broker, TopicPlan
from lepton.clock import Clock
from lepton.contracts import topics
from lepton.contracts.pb.pipelines_pb2 import PipelineState
from lepton.contracts.pipeline import Pipeline, Problem, compatible, from_json, parse
from lepton.contracts.topics import Topic
from lepton.errors import Busy, Missing, Refused
from lepton.store.announce import Relay
from lepton.store.documents import Document
from lepton.store.pipelines import Pipelines as PipelineStore
from lepton.store.pipelines import SourceBoard
from services.gateway.core.auth import Caller
from services.gateway.flow.streams import Streams

# Whoever pulls a source says how it stands every five seconds.
SOURCE_SILENT_S = 30.0
# Within this a move waits for what was taken before it; ingest carries the rest over.
DRAIN_S = 30.0
MOVING_RETRY_S = 1.0


class Incompatible(Refused):
    """A specification that rows and models of the current one cannot go on under; `problems` says why."""

    def __init__(self, name: str, reasons: list[str]) -> None:
        remedy = "apply it as a new generation (`new_generation`), which starts new topics and a new model"
        super().__init__(f"pipeline {name} cannot change like this: {reasons[0]}", field="generation", remedy=remedy)
        self.problems = [Problem("(document)", 0, reason, remedy) for reason in reasons]


@dataclass(frozen=True, slots=True)
class Applied:
    """What `apply` left behind: `created` a pipeline that was not there, `changed` an announcement under way."""

    state: PipelineState
    created: bool
    changed: bool


@dataclass(frozen=True, slots=True)
class Moved:
    """A pipeline on topics of a new generation; `drained`: nothing waited on the former ones any more."""

    state: PipelineState
    drained: bool


class Catalogue:
    """Current pipelines as fast as the topic tells them, and what this process applied even before that."""

    def __init__(self, told: Mapping[str, PipelineState], store: PipelineStore) -> None:
        """`told`: what lepton-pipelines says, by name; it changes by itself."""
        self._told = told
        self._store = store
        self._ours: dict[str, PipelineState] = {}
        self._parsed: dict[str, Pipeline] = {}
        self.moving: set[str] = set()
        """Those that take nothing here for the moment, while they move to a new generation."""

    def remember(self, state: PipelineState) -> None:
        """Take in what the database said, unless something newer is known."""
        last = self._ours.get(state.name)
        if last is None or last.version < state.version:
            self._ours[state.name] = state

    def last(self, name: str) -> PipelineState | None:
        """The newest state known here, deleted ones included."""
        known = [state for state in (self._told.get(name), self._ours.get(name)) if state is not None]
        return max(known, key=lambda state: state.version, default=None)

    def states(self) -> list[PipelineState]:
        """All that are not deleted, by name."""
        names = sorted({*self._told, *self._ours})
        return [state for name in names if (state := self.last(name)) is not None and not state.deleted]

    async def state(self, name: str) -> PipelineState:
        """Raises Missing. The database is asked only for a name that is not known here yet."""
        state = self.last(name)
        if state is None:
            state = await self._store.get(name)
            self.remember(state)
        if state.deleted:
            raise Missing(f"there is no pipeline {name}")
        return state

    async def open_state(self, name: str) -> PipelineState:
        """The state for somebody who has events. Raises Missing, and Busy while the pipeline moves."""
        if name in self.moving:
            raise Busy(f"pipeline {name} is moving to a new generation", retry_after_s=MOVING_RETRY_S,
                       remedy="send again in a moment")
        return await self.state(name)

    async def spec(self, name: str) -> Pipeline:
        return self.parsed(await self.state(name))

    def parsed(self, state: PipelineState) -> Pipeline:
        found = self._parsed.get(state.spec_digest)
        if found is None:
            if len(self._parsed) > 2000:
                self._parsed.clear()
            found = self._parsed[state.spec_digest] = from_json(state.spec_json)
        return found


class Pipelines:
    """Verbs on pipelines. A change is durable when a verb returns; the relay announces it right after."""

    def __init__(self, catalogue: Catalogue, store: PipelineStore, broker: Broker, relay: Relay, audit: Audit,
                 replication: int, streams: Streams) -> None:
        self._catalogue = catalogue
        self._store = store
        self._broker = broker
        self._relay = relay
        self._audit = audit
        self._replication = replication
        self._streams = streams

    def validate(self, text: str) -> Pipeline:
        """Raises InvalidPipeline with every problem."""
        return parse(text)

    async def too_different(self, pipeline: Pipeline) -> list[str]:
        """Why rows and models of the current version could not go on under this one; empty when they can."""
        try:
            return compatible(await self._catalogue.spec(pipeline.name), pipeline)
        except Missing:
            return []

    async def apply(self, caller: Caller, text: str, *, new_generation: bool = False) -> Applied:
        """Make the specification in `text` (YAML or JSON) current; the same one again changes nothing.

        Topics exist before anyone hears of the pipeline. Raises InvalidPipeline, Incompatible, Refused, Unavailable.
        """
        pipeline = parse(text)
        with suppress(Missing):
            # Another gateway may have changed it a moment ago.
            self._catalogue.remember(await self._store.get(pipeline.name))
        before = self._catalogue.last(pipeline.name)
        digest = pipeline.digest()
        same = before is not None and not before.deleted and before.spec_digest == digest
        if before is not None and same and not new_generation:
            return Applied(before, created=False, changed=False)
        generation = before.generation if before is not None else 1
        if before is not None and new_generation:
            generation += 1
        elif before is not None and (reasons := compatible(self._catalogue.parsed(before), pipeline)):
            raise Incompatible(pipeline.name, reasons)
        await self._audit.record(caller.key_id, "pipeline.apply", pipeline.name, f"g{generation} {digest}")
        await self._broker.create_topics([TopicPlan(*plan) for plan in topics.plans(
            pipeline.name, generation, pipeline.partitions, self._replication)])
        state = await self._store.apply(pipeline.name, pipeline.canonical_json(), digest, generation,
                                        pipeline.partitions, caller.key_id)
        self._relay.kick()
        self._catalogue.remember(state)
        return Applied(state, created=before is None or before.deleted, changed=True)

    async def repartition(self, caller: Caller, name: str, partitions: int) -> Moved:
        """Spread a pipeline over other partitions: drained, then moved to topics of a new generation.

        Meanwhile this gateway takes no events for it. What still arrives on the former topics afterwards is carried
        over by ingest; rows and model go on. Raises Missing, Refused, Invalid, Unavailable.
        """
        before = await self._store.get(name)
        self._catalogue.remember(before)
        if partitions == before.partitions:
            raise Refused(f"pipeline {name} has {partitions} partitions already", field="partitions")
        spec = self._catalogue.parsed(before)
        events = spec.events.model_copy(update={"partitions": partitions})
        pipeline = from_json(spec.model_copy(update={"events": events}).canonical_json())
        generation = before.generation + 1
        await self._audit.record(caller.key_id, "pipeline.repartition", name, f"g{generation} {partitions} partitions")
        await self._broker.create_topics([TopicPlan(*plan) for plan in topics.plans(
            name, generation, partitions, self._replication)])
        self._catalogue.moving.add(name)
        try:
            drained = await self._drained(before)
            state = await self._store.apply(name, pipeline.canonical_json(), pipeline.digest(), generation, partitions,
                                            caller.key_id, keeps_rows=True)
        finally:
            self._catalogue.moving.discard(name)
        self._relay.kick()
        self._catalogue.remember(state)
        return Moved(state, drained)

    async def _drained(self, state: PipelineState) -> bool:
        """Wait, within bounds, until everything of the generation is accepted and scored."""
        group = f".{state.name}" + (f".g{state.generation}" if state.generation > 1 else "")
        reads = {f"ingest{group}": (Topic.EVENTS, Topic.LABELS), f"predictor{group}": (Topic.FEATURES,)}
        return await self._streams.read_to_the_end({
            reader: [topics.name(topic, state.name, state.generation) for topic in read]
            for reader, read in reads.items()}, DRAIN_S)

    async def get(self, name: str) -> dict[str, Any]:
        return self.view(await self._catalogue.state(name))

    async def export(self, name: str) -> str:
        """The specification as YAML, every default written out."""
        return (await self._catalogue.spec(name)).to_yaml()

    def list(self) -> list[dict[str, Any]]:
        return [self.view(state) for state in self._catalogue.states()]

    async def delete(self, caller: Caller, name: str) -> None:
        """End a pipeline: every service lets go of it. Its topics and rows stay until their retention ends them."""
        await self._catalogue.state(name)
        await self._audit.record(caller.key_id, "pipeline.delete", name)
        self._catalogue.remember(await self._store.delete(name, caller.key_id))
        self._relay.kick()

    def view(self, state: PipelineState) -> dict[str, Any]:
        """What a client is shown of a pipeline."""
        return {
            "name": state.name, "version": state.version, "generation": state.generation,
            "partitions": state.partitions, "digest": state.spec_digest, "applied_by": state.applied_by,
            "applied_at": state.applied_at.ToJsonString(), "spec": self._catalogue.parsed(state).to_data(),
        }


class Pulled:
    """The sources that ingest pulls, as people see them."""

    def __init__(self, catalogue: Catalogue, board: SourceBoard, clock: Clock) -> None:
        self._catalogue = catalogue
        self._board = board
        self._clock = clock

    async def of(self, name: str) -> list[dict[str, Any]]:
        """How each source the pipeline pulls stands, as its owner said last. Raises Missing, Unavailable."""
        state = await self._catalogue.state(name)
        said = await self._board.of(name, state.generation)
        now_s = self._clock.now().timestamp()
        return [_source_view(source.name, source.kind, said.get(source.name), now_s)
                for source in self._catalogue.parsed(state).sources.pull]


def _source_view(name: str, kind: str, said: Document | None, now_s: float) -> dict[str, Any]:
    told = said or {}
    silent = said is not None and told["state"] != "stopped" and now_s - told["at_s"] > SOURCE_SILENT_S
    return {
        "name": name, "kind": kind, "state": "silent" if silent else told.get("state", "not pulled yet"),
        "cursor": told.get("cursor", ""), "events": told.get("events", 0), "refused": told.get("refused", 0),
        "lag": told.get("lag"), "unit": told.get("unit", ""), "reason": told.get("reason", ""),
        "last_error": told.get("error", ""), "last_error_at": _moment(told.get("error_at_s", 0.0)),
        "moved_at": _moment(told.get("moved_at_s", 0.0)), "instance": told.get("instance", ""),
    }


def _moment(seconds: float) -> str | None:
    return datetime.fromtimestamp(seconds, UTC).isoformat() if seconds else None
