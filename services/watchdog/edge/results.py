"""What became of commands and of training runs."""

from lepton.bus.consumer import Message
from lepton.contracts import topics
from lepton.contracts.pb.recovery_pb2 import RecoveryResult
from lepton.contracts.pb.training_pb2 import TrainingProgress
from lepton.contracts.topics import Topic
from services.watchdog.edge.feeds import Source
from services.watchdog.flow.observing import Observing

# An answer, or a run's end, that came while the watchdog was being restarted is among so many latest records.
HISTORY = 200


def source(observing: Observing) -> dict[str, Source]:
    def answered(message: Message) -> None:
        if isinstance(message.payload, RecoveryResult):
            observing.answered(message.payload)

    def progress(message: Message) -> None:
        if isinstance(message.payload, TrainingProgress):
            observing.progress(message.payload)

    return {topics.name(Topic.RECOVERY_RESULTS): Source(answered, HISTORY),
            topics.name(Topic.TRAINING_PROGRESS): Source(progress, HISTORY)}
