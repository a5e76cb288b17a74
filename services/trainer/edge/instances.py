"""What processes tell of themselves, followed as a table: predictors count there what versions do that are tried."""

from lepton.bus.care import Care
from lepton.bus.records import Broker, Record
from lepton.bus.table import Table
from lepton.contracts import codec, topics
from lepton.contracts.pb.telemetry_pb2 import Instance
from lepton.contracts.topics import Topic
from services.trainer.flow.rollouts import Rollouts


def heard_instances(broker: Broker, rollouts: Rollouts, care: Care, client_id: str) -> Table[Instance]:
    """`lepton-instances`, each change handed to the flow."""
    return Table(broker, topics.name(Topic.INSTANCES), _readable, client_id=f"{client_id}-instances", care=care,
                 on_change=rollouts.heard)


def _readable(record: Record) -> Instance:
    return codec.decode_as(Topic.INSTANCES, Instance, record.value or b"")
