"""Real tumours as records of the features and outcomes topics, as ingest writes them."""

from lepton.contracts import codec, features, pipeline
from lepton.contracts.topics import Topic
from services.trainer.core.streaming.pupil import FEATURES, OUTCOMES, Given
from tests.unit.trainer.world import SPEC, rows_of

STREAM_SPEC = SPEC.replace("every_rows: 50}", "every_rows: 0, stream: {candidate_rows: 150}}")


def spec(text: str = STREAM_SPEC) -> pipeline.Pipeline:
    return pipeline.parse(text)


def rows(first: int, count: int, *, partition: int = 0, offset: int | None = None) -> Given:
    """A features record of `count` rows; its offset is its first row's number unless told."""
    table, _ = rows_of(spec(), first, count)
    batch = table.combine_chunks().to_batches()[0]
    return Given(FEATURES, partition, first if offset is None else offset, features.encode_batch(batch))


def labels(first: int, count: int, *, partition: int = 0) -> list[Given]:
    _, outcomes = rows_of(spec(), first, count)
    return [Given(OUTCOMES, partition, first + place, codec.encode(Topic.OUTCOMES, outcome))
            for place, outcome in enumerate(outcomes)]
