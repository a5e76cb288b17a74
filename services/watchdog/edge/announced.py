"""What is announced to the watchdog: pipelines, with a feed for each, and signed states of models."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from lepton.bus.care import Care
from lepton.bus.records import Broker, Record
from lepton.bus.table import Table
from lepton.contracts import codec, pipeline, topics
from lepton.contracts.pb.models_pb2 import ModelState
from lepton.contracts.pb.pipelines_pb2 import PipelineState
from lepton.contracts.signing import TrustStore, verify_message
from lepton.contracts.topics import Topic
from lepton.errors import Invalid, Refused
from lepton.runtime.loops import Loop
from services.watchdog.flow.observing import Observing

log = logging.getLogger(__name__)

# Begins to follow a pipeline's topics of a generation, told whether its streamed predictions come as batches; the loop
# that does can be stopped.
Follow = Callable[[str, int, bool], Loop]


@dataclass(slots=True)
class _Followed:
    generation: int
    loop: Loop


class AnnouncedPipelines:
    """`lepton-pipelines`: one that cannot be read is reported, and its rules before go on."""

    def __init__(self, broker: Broker, observing: Observing, follow: Follow, care: Care, client_id: str) -> None:
        self._observing = observing
        self._follow = follow
        self._care = care
        self._followed: dict[str, _Followed] = {}
        table: Table[PipelineState] = Table(broker, topics.name(Topic.PIPELINES), _pipeline,
                                            client_id=f"{client_id}-pipelines", care=care, on_change=self._changed)
        self.start, self.stop, self.run = table.start, table.stop, table.run

    async def _changed(self, name: str, state: PipelineState | None) -> None:
        if state is None or state.deleted:
            self._observing.pipeline(name, None)
            await self._leave(name)
            return
        try:
            spec = pipeline.from_json(state.spec_json)
        except Invalid as error:
            self._care.report("pipeline_not_followed", str(error), name)
            return
        self._observing.pipeline(name, spec)
        followed = self._followed.get(name)
        if followed is None or followed.generation != state.generation:
            await self._leave(name)
            self._followed[name] = _Followed(state.generation, self._follow(
                name, state.generation, spec.serve.stream.results == "batches"))
            log.info("pipeline %s is watched, generation %d", name, state.generation)

    async def _leave(self, name: str) -> None:
        followed = self._followed.pop(name, None)
        if followed is not None:
            await followed.loop.stop()


def models(broker: Broker, observing: Observing, trust: TrustStore, care: Care, client_id: str) -> Table[ModelState]:
    """`lepton-models`: only signed states are believed."""

    async def changed(name: str, state: ModelState | None) -> None:
        if state is None:
            observing.no_model(name)
            return
        try:
            verify_message(trust, "trainer", state, care.clock.now())
            if state.model != name:
                raise Refused("the state is of another model than its key", field="model", place=name)
        except Refused as error:
            care.report("model_refused", str(error), f"{name} revision {state.revision}")
            return
        observing.model(state)

    return Table(broker, topics.name(Topic.MODELS), _model, client_id=f"{client_id}-models", care=care,
                 on_change=changed)


def _pipeline(record: Record) -> PipelineState:
    return codec.decode_as(Topic.PIPELINES, PipelineState, record.value or b"")


def _model(record: Record) -> ModelState:
    return codec.decode_as(Topic.MODELS, ModelState, record.value or b"")
