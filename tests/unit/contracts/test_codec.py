"""Bytes become checked messages or Invalid, whatever the bytes."""

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from lepton.contracts import codec, topics
from lepton.contracts.codec import decode, decode_as, encode
from lepton.contracts.pb.incidents_pb2 import INCIDENT_STATE_SUSPECTED, Incident, IncidentEvent
from lepton.contracts.pb.models_pb2 import VERSION_STATUS_READY, ModelManifest, ModelState, ModelVersion
from lepton.contracts.pb.outcomes_pb2 import Outcome
from lepton.contracts.pb.prediction_pb2 import PredictRequest
from lepton.contracts.pb.recovery_pb2 import RECOVERY_ACTION_RESTART, RecoveryCommand
from lepton.contracts.pb.telemetry_pb2 import INSTANCE_STATE_READY, Telemetry
from lepton.contracts.pb.training_pb2 import TRAINING_KIND_TRAIN, TrainingCommand
from lepton.contracts.topics import Topic
from lepton.errors import Invalid

PROTOBUF = [topic for topic in Topic if topics.spec(topic).content.encoding == "protobuf"]
OUTCOME = Outcome(event_id="e1", entity="u1", flag=False, label_time=Timestamp(seconds=1))


def test_what_was_encoded_comes_back() -> None:
    assert decode(Topic.OUTCOMES, encode(Topic.OUTCOMES, OUTCOME)) == OUTCOME
    assert decode_as(Topic.OUTCOMES, Outcome, encode(Topic.OUTCOMES, OUTCOME)).event_id == "e1"


def test_equal_messages_have_equal_bytes() -> None:
    one = Telemetry(instance="a", service="a", boot_id="b", sequence=1, state=INSTANCE_STATE_READY)
    other = Telemetry()
    other.CopyFrom(one)
    for key in ("x", "y", "z"):
        one.failing_checks[key] = key
    for key in ("z", "y", "x"):
        other.failing_checks[key] = key
    assert encode(Topic.TELEMETRY, one) == encode(Topic.TELEMETRY, other)


@pytest.mark.parametrize(("message", "field", "why"), [
    (Outcome(entity="u", flag=True), "event_id", "event_id is empty"),
    (Outcome(event_id="e", flag=True), "entity", "entity is empty"),
    (Outcome(event_id="e", entity="u"), "label", "label is missing"),
    (Outcome(event_id="e", entity="u", number=float("nan")), "number", "not a finite number"),
    (Outcome(event_id="e", entity="u", flag=True, label_time=Timestamp(seconds=2**60)), "label_time",
     "years 1 to 9999"),
])
def test_an_outcome_without_what_it_needs_is_refused_both_ways(message: Outcome, field: str, why: str) -> None:
    with pytest.raises(Invalid, match=why) as refused:
        encode(Topic.OUTCOMES, message)
    assert refused.value.field == field
    with pytest.raises(Invalid, match=why):
        decode(Topic.OUTCOMES, message.SerializeToString())


def test_a_number_that_identifies_may_not_be_zero() -> None:
    beat = Telemetry(instance="a", service="a", boot_id="b", state=INSTANCE_STATE_READY)
    with pytest.raises(Invalid, match="sequence is 0"):
        encode(Topic.TELEMETRY, beat)


def test_an_enumeration_must_be_one_this_version_knows() -> None:
    command = TrainingCommand(command_id="c", model="m")
    with pytest.raises(Invalid, match="kind is not specified"):
        encode(Topic.TRAINING_COMMANDS, command)
    unknown = TrainingCommand(command_id="c", kind=TRAINING_KIND_TRAIN, model="m").SerializeToString()
    with pytest.raises(Invalid, match="kind has no value 77"):
        decode(Topic.TRAINING_COMMANDS, unknown.replace(b"\x10\x01", b"\x10\x4d"))


def test_every_version_inside_a_model_state_is_checked() -> None:
    state = ModelState(model="m", revision=1, key_id="k", signature=b"s")
    whole = ModelVersion(model="m", version=1, status=VERSION_STATUS_READY, manifest=ModelManifest(model="m"))
    state.versions.append(whole)
    encode(Topic.MODELS, state)
    state.versions.append(ModelVersion(model="m", version=2, status=VERSION_STATUS_READY))
    with pytest.raises(Invalid, match=r"versions\.manifest is missing"):
        encode(Topic.MODELS, state)


def test_times_inside_repeated_messages_are_checked() -> None:
    incident = Incident(incident_id="i", revision=1, state=INCIDENT_STATE_SUSPECTED, symptom="silence",
                        timeline=[IncidentEvent(at=Timestamp(nanos=-1))])
    with pytest.raises(Invalid, match=r"timeline\.at"):
        encode(Topic.INCIDENTS, incident)


def test_an_unsigned_command_is_refused() -> None:
    with pytest.raises(Invalid, match="command_id is empty"):
        decode(Topic.RECOVERY_COMMANDS, b"")
    with pytest.raises(Invalid, match="issued_at is missing"):
        encode(Topic.RECOVERY_COMMANDS, RecoveryCommand(command_id="c", action=RECOVERY_ACTION_RESTART,
                                                        target="instance:a", issuer="w"))


def test_members_of_a_newer_version_are_passed_on() -> None:
    newer = encode(Topic.OUTCOMES, OUTCOME) + b"\xba\x3e\x03new"
    assert encode(Topic.OUTCOMES, decode(Topic.OUTCOMES, newer)) == newer


def test_another_topics_message_is_a_bug() -> None:
    with pytest.raises(TypeError, match=r"carries lepton\.v1.ModelState"):
        encode(Topic.MODELS, OUTCOME)
    with pytest.raises(TypeError, match=r"carries lepton\.v1.Outcome"):
        decode_as(Topic.OUTCOMES, ModelState, encode(Topic.OUTCOMES, OUTCOME))
    with pytest.raises(ValueError, match="carries json, not protobuf"):
        decode(Topic.EVENTS, b"{}")


def test_text_that_is_no_unicode_is_refused() -> None:
    with pytest.raises(Invalid, match="do not parse"):
        decode(Topic.OUTCOMES, b"\x0a\x02\xff\xfe")


@given(topic=st.sampled_from(PROTOBUF), value=st.binary(max_size=200))
def test_arbitrary_bytes_give_a_message_or_invalid(topic: Topic, value: bytes) -> None:
    try:
        message = decode(topic, value)
    except Invalid as refused:
        assert refused.field or "do not parse" in refused.message
    else:
        assert decode(topic, encode(topic, message)) == message


@pytest.mark.parametrize(("right", "wrong"), [("[event_id,", "[event,"), ("[event_id,", "[nothing.at,"),
                                              ("lepton.v1.Outcome", "lepton.v1.Outcom")])
def test_a_topic_file_that_names_no_member_is_refused(right: str, wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (topics.FOLDER / "lepton-outcomes-pipeline.yaml").read_text("utf-8")
    wanted = topics.parse(text.replace(right, wrong), "x")
    monkeypatch.setattr(codec, "spec", lambda topic: wanted)
    monkeypatch.setattr(codec, "message_type", codec.message_type.__wrapped__)
    with pytest.raises(Invalid, match=r"has no|no message"):
        codec._checks.__wrapped__(Topic.OUTCOMES)


@pytest.mark.parametrize("topic", PROTOBUF)
def test_keys_are_taken_from_members_that_exist(topic: Topic) -> None:
    assert topics.spec(topic).key in codec.message_type(topic).DESCRIPTOR.fields_by_name


def test_a_member_inside_one_that_is_not_given_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (topics.FOLDER / "lepton-models.yaml").read_text("utf-8")
    wanted = topics.parse(text.replace("lepton.v1.ModelState", "lepton.v1.ModelVersion").replace(
        "versions.model, versions.version, versions.status, versions.manifest", "manifest.sha256").replace(
        "[model, revision, key_id, signature, ", "["), "x")
    monkeypatch.setattr(codec, "spec", lambda topic: wanted)
    monkeypatch.setattr(codec, "message_type", codec.message_type.__wrapped__)
    checks = codec._checks.__wrapped__(Topic.MODELS)
    for check in checks:
        check(ModelVersion())
    with pytest.raises(Invalid, match=r"manifest\.sha256 is empty"):
        checks[0](ModelVersion(manifest=ModelManifest()))


def test_messages_of_others_are_not_searched_for_times() -> None:
    assert list(codec._timestamps(PredictRequest.DESCRIPTOR, ())) == []
