"""Writes docs/asyncapi.yaml, the topics as an AsyncAPI 3.0 document, from proto/topics; `--check` only compares."""

import re
import sys
from pathlib import Path
from typing import Any

import yaml

from lepton.contracts import envelope
from lepton.contracts.arrow import predictions
from lepton.contracts.topics import PLACEHOLDER, Topic, TopicSpec, dead_letter_name, spec

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "asyncapi.yaml"
HEADING = "# Generated from proto/topics and proto/lepton/v1 by `python -m tools.asyncapi`; never edited by hand.\n"
PROTOBUF = "application/vnd.google.protobuf;version=3"
KAFKA_BINDING = "0.5.0"
HEADERS = {
    envelope.ID: "Event id.",
    envelope.TIME: "When it occurred, RFC 3339.",
    envelope.SOURCE: "Who produced the event.",
    envelope.TYPE: "What kind of event it is.",
    envelope.CE_SPEC_VERSION: "CloudEvents version, 1.0.",
    envelope.SPEC_VERSION: "Version of the pipeline's specification.",
    envelope.TRACEPARENT: "W3C Trace Context of the hop before.",
    envelope.ATTEMPT: "Number of this delivery, from 1.",
    envelope.CONTENT_TYPE: "Media type of the value.",
    envelope.SPLIT_FROM: "Place of the record these rows came in, before they went to partitions of their own.",
}
DEAD_HEADERS = {
    "lepton-dead-reason": "Why it was refused.",
    "lepton-dead-field": "The field it was refused for, where there is one.",
    "lepton-dead-place": "topic/partition@offset it was read from, and #row where one row of a record was refused.",
    "lepton-dead-attempts": "How often it was tried.",
    "lepton-dead-at": "When it was refused, RFC 3339.",
    "lepton-dead-service": "Who refused it.",
}


class _Text(str):
    """Written as a block, line by line."""


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_representer(_Text, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|"))


def document() -> dict[str, Any]:
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for topic in Topic:
        one = spec(topic)
        channels[topic.stem] = _channel(one)
        if one.dead_letter is not None:
            channels[dead_letter_name(topic.stem)] = _dead_letters(one)
        for action, parties in (("send", one.producers), ("receive", one.consumers)):
            for party in parties:
                operations[f"{party}.{action}.{topic.stem}"] = {
                    "action": action, "channel": {"$ref": f"#/channels/{topic.stem}"}, "x-lepton-party": party}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Lepton",
            "version": "1",
            "description": "What Lepton's processes say to one another, and what others may say to them, over Kafka.",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/x-protobuf",
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": _messages(),
            "messageTraits": {"envelope": {"headers": _headers(HEADERS)},
                              "refused": {"headers": _headers(DEAD_HEADERS)}},
            "schemas": _schemas(),
        },
    }


def _headers(names: dict[str, str]) -> dict[str, Any]:
    return {"type": "object", "properties": {name: {"type": "string", "description": text}
                                             for name, text in names.items()}}


def _address(topic: Topic) -> dict[str, Any]:
    if not topic.per_pipeline:
        return {"address": topic.value}
    return {
        "address": topic.value.replace(PLACEHOLDER, "{pipeline}"),
        "parameters": {"pipeline": {
            "description": "Name of the pipeline; from its second generation on with -g and the generation's number."}},
    }


def _channel(one: TopicSpec) -> dict[str, Any]:
    return {
        **_address(one.topic),
        "description": one.purpose,
        "messages": {name: {"$ref": f"#/components/messages/{message}"} for name, message in _forms(one).items()},
        "bindings": {"kafka": _binding(one.config(), None if one.partitions == "pipeline" else one.partitions)},
    }


def _dead_letters(one: TopicSpec) -> dict[str, Any]:
    if one.dead_letter is None:
        raise ValueError(f"{one.topic} has no dead letters")
    called = _address(one.topic)
    return {
        **called,
        "address": dead_letter_name(called["address"]),
        "description": f"Records of {one.topic} that were refused, as they came, with the reason in headers. "
                       f"Past {one.dead_letter.limit} a minute the consumer stops its line.",
        "messages": {"refused": {
            "contentType": "application/octet-stream", "payload": {"description": "The original bytes."},
            "traits": [{"$ref": "#/components/messageTraits/refused"}]}},
        "bindings": {"kafka": _binding(one.dead_letter_config(), 1)},
    }


def _binding(config: dict[str, str], partitions: int | None) -> dict[str, Any]:
    known = {"cleanup.policy": config["cleanup.policy"].split(","), "retention.ms": int(config["retention.ms"]),
             "max.message.bytes": int(config["max.message.bytes"])}
    binding: dict[str, Any] = {"bindingVersion": KAFKA_BINDING, "topicConfiguration": known}
    return binding if partitions is None else {"partitions": partitions, **binding}


def _forms(one: TopicSpec) -> dict[str, str]:
    """What a record of the topic may be: by name in the channel, the message's name."""
    batched = one.content.message is not None and one.content.media_types
    return {"record": one.topic.stem} | ({"batch": f"{one.topic.stem}-batch"} if batched else {})


def _messages() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for topic in Topic:
        forms = _forms(spec(topic))
        found[forms["record"]] = _message(spec(topic))
        if "batch" in forms:
            found[forms["batch"]] = _batches(spec(topic))
    return found


def _batches(one: TopicSpec) -> dict[str, Any]:
    """Records that hold many, told by their content type; their columns are named as the message's members."""
    ours = {field.name: f"{field.type}{' or null' if field.nullable else ''}" for field in predictions.OURS}
    answers = {name: f"{kind}, where the task has it" for name, kind in predictions.ANSWERS.items()}
    return {"name": f"{one.topic.stem}-batch", "summary": one.purpose, "contentType": one.content.media_types[0],
            "payload": {"description": "An Arrow IPC stream of one batch. Its columns: "
                        + "; ".join(f"{name} ({kind})" for name, kind in {**ours, **answers}.items())
                        + ". The schema's metadata says model, source and instance."},
            "traits": [{"$ref": "#/components/messageTraits/envelope"}]}


def _message(one: TopicSpec) -> dict[str, Any]:
    content = one.content
    message: dict[str, Any] = {"name": content.message or one.topic.stem, "summary": one.purpose,
                               "contentType": _content_type(one), "payload": _payload(one),
                               "traits": [{"$ref": "#/components/messageTraits/envelope"}]}
    if one.key != "none":
        message["bindings"] = {"kafka": {"bindingVersion": KAFKA_BINDING,
                                         "key": {"type": "string", "description": f"The record's {one.key}."}}}
    if content.required:
        message["x-lepton-required"] = list(content.required)
    return message


def _content_type(one: TopicSpec) -> str:
    return {"protobuf": "application/x-protobuf", "private": "application/octet-stream"}.get(
        one.content.encoding) or one.content.media_types[0]


def _payload(one: TopicSpec) -> dict[str, Any]:
    if one.content.message is not None:
        return {"$ref": f"#/components/schemas/{_proto_file(one.content.message).stem}"}
    if one.content.json_schema is not None:
        return one.content.json_schema
    return {"description": f"Bytes of encoding {one.content.encoding}."}


def _proto_file(message: str) -> Path:
    short = message.rpartition(".")[2]
    for path in sorted((ROOT / "proto" / "lepton" / "v1").glob("*.proto")):
        if re.search(rf"^message {short} ", path.read_text("utf-8"), re.MULTILINE):
            return path
    raise ValueError(f"no file declares {message}")


def _schemas() -> dict[str, Any]:
    messages = [spec(topic).content.message for topic in Topic]
    paths = sorted({_proto_file(message) for message in messages if message is not None})
    return {path.stem: {"schemaFormat": PROTOBUF, "schema": _Text(path.read_text("utf-8"))} for path in paths}


def render() -> str:
    return HEADING + yaml.dump(document(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def main(arguments: list[str]) -> int:
    text = render()
    if arguments == ["--check"]:
        fresh = DOCUMENT.exists() and DOCUMENT.read_text("utf-8") == text
        if not fresh:
            print(f"{DOCUMENT.relative_to(ROOT)} is stale; run python -m tools.asyncapi")
        return 0 if fresh else 1
    DOCUMENT.parent.mkdir(exist_ok=True)
    DOCUMENT.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
