"""Which topics one pipeline generation works on."""

from dataclasses import dataclass

from lepton.contracts import topics
from lepton.contracts.topics import Topic


@dataclass(frozen=True, slots=True)
class LineTopics:
    """Names of one pipeline generation's topics."""

    events: str
    labels: str
    features: str
    outcomes: str
    state: str

    @classmethod
    def of(cls, pipeline: str, generation: int) -> "LineTopics":
        return cls(*(topics.name(topic, pipeline, generation) for topic in (
            Topic.EVENTS, Topic.LABELS, Topic.FEATURES, Topic.OUTCOMES, Topic.INGEST_STATE)))
