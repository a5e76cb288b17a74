"""Topic files say everything about a topic, and nothing that is not understood."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lepton.contracts import topics
from lepton.contracts.topics import Located, Topic, dead_letter_name, locate, name, plans, spec
from lepton.errors import Invalid, Missing

FILE = (topics.FOLDER / "lepton-outcomes-pipeline.yaml").read_text("utf-8")
PIPELINES = st.from_regex(r"[a-z0-9-]{1,40}", fullmatch=True)


def test_every_topic_has_a_file_and_every_file_a_topic() -> None:
    assert set(topics.specs()) == set(Topic)
    assert {path.stem for path in topics.FOLDER.glob("*.yaml")} == {topic.stem for topic in Topic}


@pytest.mark.parametrize(("right", "wrong", "place"), [
    ("purpose:", "purpos:", "purpos"),
    ("limit_per_minute:", "limit_per_minut:", "dead_letter.limit_per_minut"),
    ("encoding:", "encodin:", "content.encodin"),
    ("compatibility: backward", "compatibility: none", "compatibility"),
    ("cleanup: delete", "cleanup: compact", "retention is given unless"),
    ("retention: 7d", "retention: 7 days", "is no duration"),
    ("producers: [ingest, gateway]", "producers: [digest, gateway]", "producers.0"),
])
def test_a_misspelt_key_or_value_is_refused_by_name(right: str, wrong: str, place: str) -> None:
    text = FILE + "compatibility: backward\n"
    assert right in text
    with pytest.raises(Invalid, match=place.replace(".", r"\.")) as refused:
        topics.parse(text.replace(right, wrong), "outcomes.yaml")
    assert refused.value.place == "outcomes.yaml"


def test_text_that_is_no_yaml_is_refused() -> None:
    with pytest.raises(Invalid, match="not YAML"):
        topics.parse("topic: [", "x.yaml")


def test_a_missing_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in topics.FOLDER.glob("*.yaml"):
        if path.stem != "lepton-audit":
            (tmp_path / path.name).write_text(path.read_text("utf-8"), "utf-8")
    monkeypatch.setattr(topics, "FOLDER", tmp_path)
    with pytest.raises(Invalid, match="no file for lepton-audit"):
        topics.specs.__wrapped__()


def test_a_file_under_another_topics_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lepton-audit.yaml").write_text(FILE, "utf-8")
    monkeypatch.setattr(topics, "FOLDER", tmp_path)
    with pytest.raises(Invalid, match="describes lepton-outcomes-<pipeline>"):
        topics.specs.__wrapped__()


def test_names_carry_pipeline_and_generation() -> None:
    assert name(Topic.MODELS) == "lepton-models"
    assert name(Topic.EVENTS, "phishing") == "lepton-events-phishing"
    assert name(Topic.EVENTS, "phishing", 3) == "lepton-events-phishing-g3"
    assert dead_letter_name(name(Topic.EVENTS, "phishing")) == "lepton-events-phishing-dead-letters"


def test_a_name_without_what_it_needs_is_a_bug() -> None:
    with pytest.raises(ValueError, match="needs a pipeline"):
        name(Topic.EVENTS)
    with pytest.raises(ValueError, match="belongs to no pipeline"):
        name(Topic.MODELS, "phishing")
    with pytest.raises(ValueError, match="less than 1"):
        name(Topic.EVENTS, "phishing", 0)


@pytest.mark.parametrize("pipeline", ["phishing-g2", "a-dead-letters", "Upper", "", "a" * 41, "a.b"])
def test_a_pipeline_name_that_could_be_another_topics_is_refused(pipeline: str) -> None:
    with pytest.raises(Invalid) as refused:
        name(Topic.EVENTS, pipeline)
    assert refused.value.field == "metadata.name"


@given(topic=st.sampled_from(topics.pipeline_topics()), pipeline=PIPELINES, generation=st.integers(1, 99),
       dead_letters=st.booleans())
def test_locate_is_the_inverse_of_name(topic: Topic, pipeline: str, generation: int, dead_letters: bool) -> None:
    try:
        called = name(topic, pipeline, generation)
    except Invalid:
        return
    assert locate(dead_letter_name(called) if dead_letters else called) == Located(topic, pipeline, generation,
                                                                                   dead_letters)


@pytest.mark.parametrize("foreign", ["__consumer_offsets", "lepton-", "lepton-events-", "leptonish", "lepton-models-x"])
def test_topics_of_others_are_not_located(foreign: str) -> None:
    assert locate(foreign) is None


def test_platform_topics_are_located_without_a_pipeline() -> None:
    assert locate("lepton-models") == Located(Topic.MODELS, None, 1, False)
    assert locate("lepton-telemetry-dead-letters") == Located(Topic.TELEMETRY, None, 1, True)


def test_plans_of_a_pipeline_follow_its_partitions_and_bring_dead_letters() -> None:
    found = {called: (partitions, config) for called, partitions, config, _ in plans("phishing", 2, 4)}
    assert found["lepton-events-phishing-g2"][0] == 4
    assert found["lepton-events-phishing-g2-dead-letters"][0] == 1
    assert found["lepton-quality-phishing-g2"][0] == 1
    assert "lepton-ingest-state-phishing-g2-dead-letters" not in found
    assert found["lepton-ingest-state-phishing-g2"][1]["cleanup.policy"] == "compact"


def test_plans_carry_the_replication_the_broker_is_asked_for() -> None:
    assert {plan.replication for plan in plans("phishing", replication=3)} == {3}
    assert {plan.config["min.insync.replicas"] for plan in plans(replication=3)} == {"2"}


def test_platform_plans_name_no_pipeline() -> None:
    called = [one for one, *_ in plans()]
    assert "lepton-telemetry" in called
    assert not [one for one in called if "events" in one or "<" in one]


def test_short_retention_closes_segments_early_enough_to_be_kept() -> None:
    config = spec(Topic.TELEMETRY).config()
    assert int(config["segment.ms"]) < int(config["retention.ms"]) == 3_600_000
    assert config["message.timestamp.type"] == "LogAppendTime"


def test_three_replicas_need_two_to_acknowledge() -> None:
    assert spec(Topic.EVENTS).config(1)["min.insync.replicas"] == "1"
    assert spec(Topic.EVENTS).config(3)["min.insync.replicas"] == "2"


def test_a_dead_letter_has_room_for_its_headers() -> None:
    events = spec(Topic.EVENTS)
    assert int(events.dead_letter_config()["max.message.bytes"]) > events.max_message_bytes
    with pytest.raises(Missing):
        spec(Topic.INGEST_STATE).dead_letter_config()


def test_compacted_and_expiring_topics_say_both() -> None:
    config = spec(Topic.INSTANCES).config()
    assert config["cleanup.policy"] == "compact,delete"
    assert config["retention.ms"] == "86400000"


@pytest.mark.parametrize("topic", list(Topic))
def test_content_of_another_encoding_is_refused(topic: Topic) -> None:
    text = (topics.FOLDER / f"{topic.stem}.yaml").read_text("utf-8")
    other = "json" if "encoding: protobuf" in text else "protobuf"
    changed = text.replace(f"encoding: {spec(topic).content.encoding}", f"encoding: {other}")
    assert changed != text
    with pytest.raises(Invalid):
        topics.parse(changed, topic.stem)


def test_json_names_its_media_types() -> None:
    text = (topics.FOLDER / "lepton-labels-pipeline.yaml").read_text("utf-8")
    with pytest.raises(Invalid, match="media_types are given"):
        topics.parse(re.sub(r"media_types: \[.*]", "media_types: []", text), "labels.yaml")


def test_only_topics_of_a_pipeline_follow_its_partitions() -> None:
    text = (topics.FOLDER / "lepton-audit.yaml").read_text("utf-8").replace("partitions: 1", "partitions: pipeline")
    with pytest.raises(Invalid, match="belongs to no pipeline"):
        topics.parse(text, "lepton-audit.yaml")


def test_a_pipeline_whose_topic_would_be_the_platforms_is_refused() -> None:
    with pytest.raises(Invalid, match="would name a topic of the platform"):
        topics.name(Topic.EVENTS, "rollups")
    assert topics.locate("lepton-quality-rollups") == (Topic.QUALITY_ROLLUPS, None, 1, False)
    assert topics.locate("lepton-quality-rollups-b") == (Topic.QUALITY, "rollups-b", 1, False)
