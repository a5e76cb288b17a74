"""What judging a batch needs to know of the rows a partition kept before it."""

from dataclasses import dataclass

from lepton.contracts.pipeline import Pipeline
from services.ingest.core.clean.times import NO_WATERMARK
from services.ingest.core.dedupe import Seen
from services.ingest.core.steps.statistics import StatisticsStep
from services.ingest.core.steps.trees import TreesStep


@dataclass(slots=True)
class Past:
    """Of one partition. Judging changes nothing in it that `keep` and `drop` of its owner do not settle."""

    partition: int
    seen: Seen
    contents: Seen
    """Digests of what was kept; of size 0 where the Pipeline does not ask for it."""
    statistics: StatisticsStep
    trees: TreesStep
    watermark: int = NO_WATERMARK
    """Highest event time seen, in microseconds since the epoch; future ones left out."""

    @classmethod
    def of(cls, pipeline: Pipeline, partition: int = 0) -> "Past":
        """Of a partition that has kept nothing yet."""
        return cls(partition, Seen(pipeline.events.dedupe_window), Seen(_contents(pipeline), Seen.CONTENT),
                   StatisticsStep(pipeline, partition), TreesStep(pipeline))

    def adopt(self, pipeline: Pipeline) -> None:
        """Go on under another version from the next batch on."""
        self.seen.ring.resize(pipeline.events.dedupe_window)
        self.contents.ring.resize(_contents(pipeline))


def _contents(pipeline: Pipeline) -> int:
    return pipeline.events.dedupe_window if pipeline.clean.duplicates.content else 0
