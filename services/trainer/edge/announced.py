"""What is announced to the trainer: specs of pipelines, followed as a table."""

from collections.abc import Mapping

from lepton.bus.care import Care
from lepton.bus.records import Broker, Record
from lepton.bus.table import Table
from lepton.contracts import codec, pipeline, topics
from lepton.contracts.pb.pipelines_pb2 import PipelineState
from lepton.contracts.topics import Topic


class AnnouncedPipelines:
    """`lepton-pipelines`, followed; a spec that cannot be read is reported, and the one before stays."""

    def __init__(self, broker: Broker, care: Care, client_id: str) -> None:
        self._table: Table[PipelineState] = Table(
            broker, topics.name(Topic.PIPELINES), _readable, client_id=f"{client_id}-pipelines", care=care)
        self.start = self._table.start
        self.stop = self._table.stop
        self.run = self._table.run

    def states(self) -> Mapping[str, PipelineState]:
        return self._table.values


def _readable(record: Record) -> PipelineState:
    state = codec.decode_as(Topic.PIPELINES, PipelineState, record.value or b"")
    if not state.deleted:
        pipeline.from_json(state.spec_json)
    return state
