"""Which topics exist, what each carries and how each is kept, as read from proto/topics; the only speller of names."""

import functools
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from lepton.errors import Invalid, Missing

FOLDER = Path(__file__).resolve().parents[2] / "proto" / "topics"
PLACEHOLDER = "<pipeline>"
DEAD_LETTERS = "-dead-letters"
DEFAULT_PARTITIONS = 12

_PIPELINE = re.compile(r"[a-z0-9-]{1,40}")
_GENERATION = re.compile(r"-g([0-9]+)$")
_UNITS_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
# A segment that is still written to is neither compacted nor deleted, so it is closed after these times.
_COMPACTED_SEGMENT_MS = 600_000
_LONGEST_SEGMENT_MS = 7 * 86_400_000
# A dead letter is the original record with headers added.
_DEAD_LETTER_HEADERS_BYTES = 65_536

Party = Literal["anyone", "gateway", "ingest", "trainer", "predictor", "watchdog", "actuator"]


class Topic(StrEnum):
    """Every topic of the platform; the value is its name, with the pipeline's left open where there is one each."""

    PIPELINES = "lepton-pipelines"
    EVENTS = "lepton-events-<pipeline>"
    LABELS = "lepton-labels-<pipeline>"
    FEATURES = "lepton-features-<pipeline>"
    OUTCOMES = "lepton-outcomes-<pipeline>"
    INGEST_STATE = "lepton-ingest-state-<pipeline>"
    # Before the topic it would otherwise be taken for one of.
    QUALITY_ROLLUPS = "lepton-quality-rollups"
    QUALITY = "lepton-quality-<pipeline>"
    PREDICTIONS = "lepton-predictions-<pipeline>"
    DATA_COMMANDS = "lepton-data-commands"
    TRAINING_COMMANDS = "lepton-training-commands"
    TRAINING_PROGRESS = "lepton-training-progress"
    MODELS = "lepton-models"
    INSTANCES = "lepton-instances"
    TELEMETRY = "lepton-telemetry"
    RECOVERY_COMMANDS = "lepton-recovery-commands"
    RECOVERY_RESULTS = "lepton-recovery-results"
    INCIDENTS = "lepton-incidents"
    WATCHDOG_JOURNAL = "lepton-watchdog-journal"
    AUDIT = "lepton-audit"

    @property
    def per_pipeline(self) -> bool:
        return self.value.endswith(PLACEHOLDER)

    @property
    def stem(self) -> str:
        """Name of the topic's file in proto/topics and of its folder in proto/examples."""
        return self.value.replace(PLACEHOLDER, "pipeline")


def _milliseconds(value: object) -> object:
    match = re.fullmatch(r"([1-9][0-9]*)([smhd])", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} is no duration; write a number and s, m, h or d, as in 7d")
    return int(match[1]) * _UNITS_MS[match[2]]


DurationMs = Annotated[int, BeforeValidator(_milliseconds)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Content(_Strict):
    """What the value of a record is. `required` and `finite` name members, dotted through nested messages.

    `media_types` are those a record may be of; with protobuf those it may be of instead, where its header
    `content-type` says so.
    """

    encoding: Literal["protobuf", "json", "arrow", "private"]
    version: int = Field(default=1, ge=1)
    message: str | None = None
    required: tuple[str, ...] = ()
    finite: tuple[str, ...] = ()
    media_types: tuple[str, ...] = ()
    json_schema: dict[str, Any] | None = Field(default=None, alias="schema")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.encoding == "protobuf") != (self.message is not None):
            raise ValueError("content.message is given with encoding protobuf, and only then")
        if self.encoding != "protobuf" and (self.encoding in ("json", "arrow")) != bool(self.media_types):
            raise ValueError("content.media_types are given with encoding json or arrow, may be with protobuf, and "
                             "with no other")
        return self


class DeadLetter(_Strict):
    """Where refused records go; past `limit` of them a minute the consumer stops its line instead."""

    retention_ms: DurationMs = Field(alias="retention")
    limit: int = Field(alias="limit_per_minute", ge=1)


class TopicSpec(_Strict):
    """One topic as proto/topics describes it. `key` names the member the record key is taken from."""

    topic: Topic
    purpose: str = Field(min_length=10)
    key: str
    content: Content
    compatibility: Literal["backward"] = "backward"
    cleanup: Literal["delete", "compact", "compact,delete"]
    # -1 keeps the last record of each key for ever.
    retention_ms: DurationMs | Literal[-1] = Field(default=-1, alias="retention")
    partitions: Annotated[int, Field(ge=1)] | Literal["pipeline"]
    max_message_bytes: int = Field(default=1_048_576, ge=1024)
    producers: tuple[Party, ...] = Field(min_length=1)
    consumers: tuple[Party, ...]
    dead_letter: DeadLetter | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.cleanup == "compact") != (self.retention_ms == -1):
            raise ValueError("retention is given unless cleanup is compact, and only then")
        if self.partitions == "pipeline" and not self.topic.per_pipeline:
            raise ValueError(f"partitions are a number for {self.topic}, which belongs to no pipeline")
        return self

    def config(self, replication: int = 1) -> dict[str, str]:
        """Topic settings for the broker, by Kafka's names."""
        return _config(self.cleanup, self.retention_ms, self.max_message_bytes, replication)

    def dead_letter_config(self, replication: int = 1) -> dict[str, str]:
        """The same for the dead-letter topic. Raises Missing where the topic has none."""
        if self.dead_letter is None:
            raise Missing(f"{self.topic} has no dead-letter topic")
        size_bytes = self.max_message_bytes + _DEAD_LETTER_HEADERS_BYTES
        return _config("delete", self.dead_letter.retention_ms, size_bytes, replication)


def _config(cleanup: str, retention_ms: int, max_message_bytes: int, replication: int) -> dict[str, str]:
    config = {
        "cleanup.policy": cleanup,
        "retention.ms": str(retention_ms),
        "max.message.bytes": str(max_message_bytes),
        # The broker's time orders events of producers whose clocks disagree, and retention follows it.
        "message.timestamp.type": "LogAppendTime",
        "min.insync.replicas": "2" if replication >= 3 else "1",
    }
    if "compact" in cleanup:
        config |= {"segment.ms": str(_COMPACTED_SEGMENT_MS), "min.cleanable.dirty.ratio": "0.1"}
    else:
        config["segment.ms"] = str(max(_COMPACTED_SEGMENT_MS, min(retention_ms // 4, _LONGEST_SEGMENT_MS)))
    return config


def parse(text: str, place: str) -> TopicSpec:
    """One topic file. Raises Invalid naming `place` and every problem, unknown keys among them."""
    try:
        return TopicSpec.model_validate(yaml.safe_load(text))
    except ValidationError as failure:
        problems = [".".join(map(str, error["loc"])) + ": " + error["msg"] for error in failure.errors()]
        raise Invalid("; ".join(problems), place=place, remedy="see proto/README.md") from failure
    except yaml.YAMLError as failure:
        raise Invalid("not YAML", place=place) from failure


@functools.cache
def specs() -> dict[Topic, TopicSpec]:
    """Every topic's specification. Raises Invalid when files and topics do not match one to one."""
    found: dict[Topic, TopicSpec] = {}
    for path in sorted(FOLDER.glob("*.yaml")):
        read = parse(path.read_text("utf-8"), path.name)
        if path.stem != read.topic.stem:
            raise Invalid(f"describes {read.topic}", place=path.name, remedy=f"name the file {read.topic.stem}.yaml")
        found[read.topic] = read
    absent = [topic.value for topic in Topic if topic not in found]
    if absent:
        raise Invalid(f"no file for {', '.join(absent)}", place=str(FOLDER), remedy="keep proto/ beside lepton/")
    return found


def spec(topic: Topic) -> TopicSpec:
    return specs()[topic]


def name(topic: Topic, pipeline: str | None = None, generation: int = 1) -> str:
    """Name of a topic on the broker. Raises Invalid for a pipeline name that could be read as another topic's."""
    if not topic.per_pipeline:
        if pipeline is not None:
            raise ValueError(f"{topic} belongs to no pipeline")
        return topic.value
    if pipeline is None:
        raise ValueError(f"{topic} needs a pipeline")
    check_pipeline_name(pipeline)
    if generation < 1:
        raise ValueError(f"generation {generation} is less than 1")
    return topic.value.replace(PLACEHOLDER, pipeline) + (f"-g{generation}" if generation > 1 else "")


def check_pipeline_name(pipeline: str) -> None:
    """Raises Invalid unless topics named after the pipeline are its alone."""
    if not _PIPELINE.fullmatch(pipeline):
        raise Invalid(f"{pipeline!r} is no pipeline name", field="metadata.name",
                      remedy="use 1 to 40 lower-case letters, digits and hyphens")
    if pipeline.endswith(DEAD_LETTERS) or _GENERATION.search(pipeline):
        raise Invalid(f"{pipeline!r} ends as names of topics do", field="metadata.name",
                      remedy=f"choose a name that ends neither in {DEAD_LETTERS} nor in -g and a number")
    taken = {topic.value for topic in platform_topics()}
    if any(topic.value.replace(PLACEHOLDER, pipeline) in taken for topic in pipeline_topics()):
        raise Invalid(f"{pipeline!r} would name a topic of the platform", field="metadata.name",
                      remedy="choose another name")


def dead_letter_name(topic_name: str) -> str:
    return topic_name + DEAD_LETTERS


class Located(NamedTuple):
    """What a name on the broker stands for."""

    topic: Topic
    pipeline: str | None
    generation: int
    dead_letters: bool


def locate(topic_name: str) -> Located | None:
    """The inverse of `name` and `dead_letter_name`; None for a topic that is not the platform's."""
    dead_letters = topic_name.endswith(DEAD_LETTERS)
    bare = topic_name.removesuffix(DEAD_LETTERS)
    for topic in Topic:
        if bare == topic.value:
            return Located(topic, None, 1, dead_letters)
        prefix = topic.value.removesuffix(PLACEHOLDER)
        if topic.per_pipeline and bare.startswith(prefix):
            rest = bare.removeprefix(prefix)
            match = _GENERATION.search(rest)
            pipeline = rest[: match.start()] if match else rest
            return Located(topic, pipeline, int(match[1]) if match else 1, dead_letters) if pipeline else None
    return None


def pipeline_topics() -> tuple[Topic, ...]:
    return tuple(topic for topic in Topic if topic.per_pipeline)


def platform_topics() -> tuple[Topic, ...]:
    return tuple(topic for topic in Topic if not topic.per_pipeline)


class Plan(NamedTuple):
    """How a topic is to be created, in the order of the broker's own plan."""

    name: str
    partitions: int
    config: dict[str, str]
    replication: int


def plans(pipeline: str | None = None, generation: int = 1, partitions: int = DEFAULT_PARTITIONS,
          replication: int = 1) -> list[Plan]:
    """A pipeline's topics, or (None) the platform's, dead-letter topics included.

    `partitions` are the pipeline's; dead letters lie in one partition, in the order they were refused.
    """
    wanted: list[Plan] = []
    for topic in platform_topics() if pipeline is None else pipeline_topics():
        one = spec(topic)
        called = name(topic, pipeline, generation)
        count = partitions if one.partitions == "pipeline" else one.partitions
        wanted.append(Plan(called, count, one.config(replication), replication))
        if one.dead_letter is not None:
            wanted.append(Plan(dead_letter_name(called), 1, one.dead_letter_config(replication), replication))
    return wanted
