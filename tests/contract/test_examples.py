"""Every topic has examples; the valid ones are read and written back, the invalid ones refused for their reason."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from lepton.contracts import codec, features
from lepton.contracts.arrow import predictions
from lepton.contracts.arrow.stream import CONTENT_TYPE, read_table
from lepton.contracts.envelope import Envelope
from lepton.contracts.feedback import opinions
from lepton.contracts.topics import Topic, spec
from lepton.errors import Invalid
from services.ingest.core.acceptance import Acceptance
from services.ingest.core.clean.past import Past
from services.ingest.core.labels import Labels
from services.ingest.core.reading.intake import Rejection
from tests.harness import examples
from tests.harness.examples import Example

SHOWN = [topic for topic in Topic if spec(topic).content.encoding != "private"]
VALID = [example for topic in SHOWN for example in examples.valid(topic)]
RAW = (Topic.EVENTS, Topic.LABELS)
INVALID = [example for topic in SHOWN for example in examples.invalid(topic)]
# Ingest passes over opinions, the watchdog over labels.
OPINIONS = [example for example in INVALID if opinions.is_opinion(example.headers)]


def read(example: Example) -> None:
    """As a consumer reads it before it knows the pipeline."""
    Envelope.from_headers(example.headers)
    match spec(example.topic).content.encoding:
        case "protobuf" if dict(example.headers).get("content-type") == CONTENT_TYPE.encode():
            assert list(predictions.told(example.value))
        case "protobuf":
            message = codec.decode(example.topic, example.value)
            assert codec.encode(example.topic, message) == example.value
        case "arrow":
            features.decode_batch(example.value)
        case "json" if dict(example.headers).get("content-type") == CONTENT_TYPE.encode():
            read_table(example.value)
        case "json" if opinions.is_opinion(example.headers):
            assert opinions.encode(opinions.decode(example.value)) == opinions.encode(opinions.decode(example.value))
        case "json":
            assert isinstance(json.loads(example.value), dict)


@pytest.mark.parametrize("topic", SHOWN)
def test_every_topic_has_ordinary_extreme_and_invalid_examples(topic: Topic) -> None:
    assert {"ordinary", "extreme"} <= {example.name for example in examples.valid(topic)}
    assert examples.invalid(topic)


def test_every_example_folder_belongs_to_a_topic() -> None:
    folders = {path.name for path in examples.FOLDER.iterdir() if path.is_dir()}
    assert folders == {topic.stem for topic in SHOWN}


@pytest.mark.parametrize("example", VALID, ids=str)
def test_a_valid_example_is_accepted(example: Example) -> None:
    read(example)


@pytest.mark.parametrize("example", [one for one in INVALID if spec(one.topic).content.encoding != "json"], ids=str)
def test_an_invalid_example_is_refused_for_its_reason(example: Example) -> None:
    with pytest.raises(Invalid) as refused:
        read(example)
    assert example.reason in refused.value.message
    assert example.field == refused.value.field


@dataclass(frozen=True)
class Sent:
    """An example as ingest reads it off the log."""

    value: bytes
    headers: examples.Headers
    offset: int = 0
    timestamp_ms: int = 1_795_240_800_000


def ingest(example: Example) -> list[Rejection]:
    sent = [Sent(example.value, example.headers)]
    if example.topic is Topic.EVENTS:
        past = Past.of(examples.pipeline())
        return Acceptance(examples.pipeline(), 1).judge(sent, past, {}, frozenset()).rejections
    return Labels(examples.pipeline(), spec_version=1).read(sent).rejections


@pytest.mark.parametrize("example", [one for one in VALID if one.topic in RAW], ids=str)
def test_ingest_accepts_the_valid_ones(example: Example) -> None:
    assert ingest(example) == []


@pytest.mark.parametrize("example", [one for one in INVALID if one.topic in RAW and one not in OPINIONS], ids=str)
def test_ingest_refuses_the_invalid_ones_for_their_reason(example: Example) -> None:
    (refused,) = ingest(example)
    assert example.reason in refused.message
    assert example.field == refused.field


@pytest.mark.parametrize("example", OPINIONS, ids=str)
def test_an_invalid_opinion_is_none_of_ingests_and_refused_by_the_watchdog_for_its_reason(example: Example) -> None:
    assert ingest(example) == []
    with pytest.raises(Invalid) as refused:
        opinions.decode(example.value)
    assert example.reason in refused.value.message
    assert example.field == refused.value.field


@pytest.mark.parametrize("example", VALID, ids=str)
def test_an_example_fits_its_topic(example: Example) -> None:
    assert len(example.value) <= spec(example.topic).max_message_bytes


def test_an_invalid_example_without_its_reason_is_no_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "lepton-audit" / "v1" / "invalid"
    folder.mkdir(parents=True)
    (folder / "x.yaml").write_text("hex: ff\n", "utf-8")
    monkeypatch.setattr(examples, "FOLDER", tmp_path)
    with pytest.raises(AssertionError, match="needs a reason"):
        examples.invalid(Topic.AUDIT)
