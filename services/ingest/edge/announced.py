"""What is announced to ingest: specs of pipelines and states of models, checked, then handed to the flow."""

import logging

from lepton.bus.care import Care
from lepton.bus.records import Broker, Record
from lepton.bus.table import Table
from lepton.clock import Clock
from lepton.contracts import codec, topics
from lepton.contracts.pb.models_pb2 import ModelState
from lepton.contracts.pb.pipelines_pb2 import PipelineState
from lepton.contracts.signing import TrustStore, verify_message
from lepton.contracts.topics import Topic
from lepton.errors import LeptonError, Refused
from services.ingest.flow.ingest import Ingest

log = logging.getLogger(__name__)


class AnnouncedPipelines:
    """`lepton-pipelines`, followed. One that cannot be followed is reported, and the version before goes on."""

    def __init__(self, broker: Broker, ingest: Ingest, care: Care, client_id: str) -> None:
        self._ingest = ingest
        self._care = care
        self._table: Table[PipelineState] = Table(
            broker, topics.name(Topic.PIPELINES), _pipeline, client_id=f"{client_id}-pipelines", care=care,
            on_change=self._changed)
        self.run = self._table.run
        self.stop = self._table.stop

    async def start(self) -> None:
        """Know every pipeline; work for them begins with `run`."""
        await self._table.start()
        for name in self._table.values:
            self._ingest.announce(name)

    async def _changed(self, name: str, state: PipelineState | None) -> None:
        try:
            await self._ingest.follow_pipeline(name, state)
        except LeptonError as error:
            self._care.report("pipeline_not_followed", str(error), name)
            return
        log.info("pipeline %s is at version %s", name, "none" if state is None or state.deleted else state.version)


class AnnouncedModels:
    """`lepton-models`, followed: the champion's statistics say what is outlying. Only signed states are believed."""

    def __init__(self, broker: Broker, ingest: Ingest, trust: TrustStore, care: Care, client_id: str) -> None:
        self._ingest = ingest
        self._trust = trust
        self._care = care
        self._clock: Clock = care.clock
        self._revisions: dict[str, int] = {}
        self._table: Table[ModelState] = Table(
            broker, topics.name(Topic.MODELS), _model, client_id=f"{client_id}-models", care=care,
            on_change=self._changed)
        self.run = self._table.run
        self.stop = self._table.stop

    async def start(self) -> None:
        """Know every champion before the first event is judged."""
        await self._table.start()
        for name, state in list(self._table.values.items()):
            await self._changed(name, state)

    async def _changed(self, name: str, state: ModelState | None) -> None:
        if state is None:
            self._revisions.pop(name, None)
        else:
            if state.revision <= self._revisions.get(name, 0):
                return
            try:
                verify_message(self._trust, "trainer", state, self._clock.now())
                if state.model != name:
                    raise Refused("the state is of another model than its key", field="model", place=name)
            except Refused as error:
                self._care.report("model_refused", str(error), f"{name} revision {state.revision}")
                return
            self._revisions[name] = state.revision
        await self._ingest.follow_model(name, state)


def _pipeline(record: Record) -> PipelineState:
    return codec.decode_as(Topic.PIPELINES, PipelineState, record.value or b"")


def _model(record: Record) -> ModelState:
    return codec.decode_as(Topic.MODELS, ModelState, record.value or b"")
