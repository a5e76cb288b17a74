"""What flows through one pipeline: predictions, outcomes, opinions and summaries of its rows."""

from lepton.bus.consumer import Message
from lepton.contracts import topics
from lepton.contracts.arrow import predictions
from lepton.contracts.feedback import opinions
from lepton.contracts.pb.outcomes_pb2 import Outcome
from lepton.contracts.pb.quality_pb2 import QualitySummary
from lepton.contracts.topics import Topic
from services.watchdog.edge.feeds import Source
from services.watchdog.flow.observing import Observing

# Labels come late: predictions made before a restart are still joined with them.
PREDICTIONS = 2_000
# Of batches, each of thousands of rows.
PREDICTION_BATCHES = 20
# Of labels, whom opinions stand among: what is usual of the version before is known again after a restart.
OPINIONS = 2_000
# Some minutes of summaries: which sources usually deliver is known again after a restart.
SUMMARIES = 300
# Before these, of so many only how many rows came: longer than it takes to learn what is usual, also where several
# processes of ingest write one every two seconds each.
COUNTED = 900


def source(observing: Observing, pipeline: str, generation: int, *, batches: bool = False) -> dict[str, Source]:
    """`batches`: streamed predictions come many a record; both forms are read in any case."""
    def predicted(message: Message) -> None:
        observing.predicted(pipeline, predictions.told(message.payload))

    def readable(message: Message) -> None:
        if isinstance(message.payload, bytes):
            predictions.decode_batch(message.payload)

    def turned_out(message: Message) -> None:
        if isinstance(message.payload, Outcome):
            observing.turned_out(pipeline, message.payload)

    def opined(message: Message) -> None:
        observing.opined(pipeline, opinions.decode(message.record.value))

    def opinion_readable(message: Message) -> None:
        opinions.decode(message.record.value)

    def summary(message: Message) -> None:
        if isinstance(message.payload, QualitySummary):
            observing.summary(message.payload)

    def counted(message: Message) -> None:
        if isinstance(message.payload, QualitySummary):
            observing.summary(message.payload, brief=True)

    return {topics.name(Topic.PREDICTIONS, pipeline, generation): Source(
                predicted, PREDICTION_BATCHES if batches else PREDICTIONS, readable),
            topics.name(Topic.OUTCOMES, pipeline, generation): Source(turned_out),
            topics.name(Topic.LABELS, pipeline, generation): Source(
                opined, OPINIONS, opinion_readable, lambda record: opinions.is_opinion(record.headers)),
            topics.name(Topic.QUALITY, pipeline, generation): Source(
                summary, SUMMARIES, brief=counted, before=COUNTED)}
