"""How bytes on a topic become a checked message and back; the one place that sees protobuf's own errors.

What must be present is said by the topic's file (`content.required`, `content.finite`); a required enumeration must
have a value this version knows. A member this version does not know is kept and passed on, so that an older reader
outlives a newer writer.
"""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from lepton.contracts.pb import (
    data_pb2,
    incidents_pb2,
    models_pb2,
    outcomes_pb2,
    pipelines_pb2,
    predictions_pb2,
    quality_pb2,
    recovery_pb2,
    telemetry_pb2,
    training_pb2,
)
from lepton.contracts.topics import Topic, spec
from lepton.errors import Invalid

_MODULES = (data_pb2, incidents_pb2, models_pb2, outcomes_pb2, pipelines_pb2, predictions_pb2, quality_pb2,
            recovery_pb2, telemetry_pb2, training_pb2)
_TIMESTAMP = "google.protobuf.Timestamp"
# Years 1 to 9999, as the type itself allows; beyond them reading a time would raise.
_FIRST_S, _LAST_S = -62_135_596_800, 253_402_300_799

Check = Callable[[Message], None]
Kind = TypeVar("Kind", bound=Message)


def encode(topic: Topic, message: Message) -> bytes:
    """Bytes of a message, the same for equal messages. Raises Invalid for one that `decode` would refuse."""
    _expect(topic, message)
    for check in _checks(topic):
        check(message)
    return message.SerializeToString(deterministic=True)


def decode(topic: Topic, value: bytes) -> Message:
    """The message in a record of the topic. Raises Invalid with the field and why; never protobuf's own error."""
    return _reading(topic)(value)


@functools.cache
def message_type(topic: Topic) -> type[Message]:
    """Class of the messages on a topic. Raises ValueError for a topic that carries no protobuf."""
    wanted = spec(topic).content.message
    if wanted is None:
        raise ValueError(f"{topic} carries {spec(topic).content.encoding}, not protobuf")
    package, _, short = wanted.rpartition(".")
    for module in _MODULES:
        if module.DESCRIPTOR.package == package and short in module.DESCRIPTOR.message_types_by_name:
            return GetMessageClass(module.DESCRIPTOR.message_types_by_name[short])
    raise Invalid(f"no message {wanted}", field="content.message", place=f"{topic.stem}.yaml")


def decode_as(topic: Topic, kind: type[Kind], value: bytes) -> Kind:
    """`decode` for a caller that knows the topic's message class, so that a type checker does too."""
    return reader(topic, kind)(value)


def reader(topic: Topic, kind: type[Kind]) -> Callable[[bytes], Kind]:
    """`decode_as` of many messages: what is looked up by topic is looked up once."""
    if not issubclass(found := message_type(topic), kind):
        raise TypeError(f"{topic} carries {found.DESCRIPTOR.full_name}, not {kind.DESCRIPTOR.full_name}")
    return cast(Callable[[bytes], Kind], _reading(topic))


def _descriptor(topic: Topic) -> Descriptor:
    return cast(Descriptor, message_type(topic).DESCRIPTOR)


@functools.cache
def _reading(topic: Topic) -> Callable[[bytes], Message]:
    kind, checks = message_type(topic), _checks(topic)

    def read(value: bytes) -> Message:
        try:
            message = kind.FromString(value)
        except DecodeError as failure:
            raise Invalid(f"not a {kind.DESCRIPTOR.full_name}: {len(value)} bytes do not parse",
                          place=topic.value) from failure
        for check in checks:
            check(message)
        return message

    return read


def _expect(topic: Topic, message: Message) -> None:
    wanted = message_type(topic).DESCRIPTOR.full_name
    if message.DESCRIPTOR.full_name != wanted:
        raise TypeError(f"{topic} carries {wanted}, not {message.DESCRIPTOR.full_name}")


@functools.cache
def _checks(topic: Topic) -> tuple[Check, ...]:
    content = spec(topic).content
    descriptor = _descriptor(topic)
    required = [_at(topic, descriptor, path, _present) for path in content.required]
    finite = [_at(topic, descriptor, path, _finite) for path in content.finite]
    times = [_at(topic, descriptor, path, _time) for path in _timestamps(descriptor, ())]
    return (*required, *finite, *times)


def _at(topic: Topic, descriptor: Descriptor, path: str, rule: Callable[[Descriptor, str, str], Check]) -> Check:
    """A check of the member at a dotted path, in each message of the repeated members on the way."""
    *outer, last = path.split(".")
    inner = descriptor
    for step in outer:
        field = inner.fields_by_name.get(step)
        if field is None or field.message_type is None:
            raise Invalid(f"{inner.full_name} has no message {step}", field=path, place=f"{topic.stem}.yaml")
        inner = field.message_type
    if last not in inner.fields_by_name and last not in inner.oneofs_by_name:
        raise Invalid(f"{inner.full_name} has no member {last}", field=path, place=f"{topic.stem}.yaml")
    check = rule(inner, last, path)
    if not outer:
        return check

    def nested(message: Message) -> None:
        for one in _reach(message, outer):
            check(one)

    return nested


def _reach(message: Any, steps: list[str]) -> Iterator[Message]:
    if not steps:
        yield message
        return
    field = message.DESCRIPTOR.fields_by_name[steps[0]]
    if field.is_repeated:
        for one in getattr(message, field.name):
            yield from _reach(one, steps[1:])
    elif message.HasField(field.name):
        yield from _reach(getattr(message, field.name), steps[1:])


def _present(descriptor: Descriptor, member: str, path: str) -> Check:
    if member in descriptor.oneofs_by_name:
        def oneof(message: Message) -> None:
            if message.WhichOneof(member) is None:
                raise Invalid(f"{path} is missing", field=path)
        return oneof
    field = descriptor.fields_by_name[member]
    if field.message_type is not None and not field.is_repeated:
        def given(message: Message) -> None:
            if not message.HasField(member):
                raise Invalid(f"{path} is missing", field=path)
        return given
    if field.enum_type is not None:
        known = frozenset(number for number in field.enum_type.values_by_number if number != 0)

        def named(message: Message) -> None:
            number = getattr(message, member)
            if number not in known:
                why = "is not specified" if number == 0 else f"has no value {number}"
                raise Invalid(f"{path} {why}", field=path)
        return named
    is_number = field.type not in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)

    def filled(message: Message) -> None:
        if not getattr(message, member):
            raise Invalid(f"{path} is 0" if is_number and not field.is_repeated else f"{path} is empty", field=path)
    return filled


def _finite(descriptor: Descriptor, member: str, path: str) -> Check:
    def finite(message: Message) -> None:
        if not math.isfinite(getattr(message, member)):
            raise Invalid(f"{path} is not a finite number", field=path)
    return finite


def _time(descriptor: Descriptor, member: str, path: str) -> Check:
    def possible(message: Message) -> None:
        # One that is absent reads as 1970.
        time = getattr(message, member)
        if not (_FIRST_S <= time.seconds <= _LAST_S and 0 <= time.nanos < 1_000_000_000):
            raise Invalid(f"{path} lies outside the years 1 to 9999", field=path)
    return possible


def _timestamps(descriptor: Descriptor, outer: tuple[str, ...]) -> Iterator[str]:
    for field in descriptor.fields:
        inner = field.message_type
        if inner is None or inner.GetOptions().map_entry:
            continue
        if inner.full_name == _TIMESTAMP and not field.is_repeated:
            yield ".".join((*outer, field.name))
        elif inner.file.package == descriptor.file.package:
            yield from _timestamps(inner, (*outer, field.name))
