"""The form of what is answered: protobuf messages as plain JSON, and the JSON Schema for it in the OpenAPI page."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from starlette.responses import Response

# Protobuf has two implementations of these, and its stubs say either; what is used here is the same in both.
Field = Any

_TIMESTAMP = Timestamp.DESCRIPTOR.full_name
_NUMBERS = {FieldDescriptor.TYPE_DOUBLE: "number", FieldDescriptor.TYPE_FLOAT: "number",
            FieldDescriptor.TYPE_BOOL: "boolean", FieldDescriptor.TYPE_STRING: "string",
            FieldDescriptor.TYPE_BYTES: "string"}


# As the framework types `responses` of a route.
Responses = dict[int | str, dict[str, Any]]


def answer(data: Any, status: int = 200, headers: Mapping[str, str] | None = None,
           media_type: str = "application/json") -> Response:
    return Response(msgspec.json.encode(data), status, headers, media_type)


def plain(message: Message) -> dict[str, Any]:
    """Every member under its own name: numbers as numbers, times as RFC 3339, values of enumerations by short name.

    A message, a oneof or an optional member that is not set is left out; bytes are hexadecimal.
    """
    return {field.name: _value(message, field) for field in message.DESCRIPTOR.fields if _is_shown(message, field)}


def _is_shown(message: Message, field: Field) -> bool:
    return bool(field.is_repeated or not field.has_presence or message.HasField(field.name))


def _value(message: Message, field: Field) -> Any:
    value = getattr(message, field.name)
    if not field.is_repeated:
        return _single(field, value)
    if _is_map(field):
        inner = field.message_type.fields_by_name["value"]
        return {str(key): _single(inner, one) for key, one in sorted(value.items())}
    return [_single(field, one) for one in value]


def _single(field: Field, value: Any) -> Any:
    if field.message_type is not None:
        return value.ToJsonString() if field.message_type.full_name == _TIMESTAMP else plain(value)
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return _short(field.enum_type, known.name) if known else str(value)
    return value.hex() if isinstance(value, bytes) else value


def _is_map(field: Field) -> bool:
    return bool(field.message_type is not None and field.message_type.GetOptions().map_entry)


def _short(enum: Field, name: str) -> str:
    """`RUN_STATE_QUEUED` of RunState becomes `QUEUED`."""
    prefix: str = enum.values[0].name.removesuffix("UNSPECIFIED")
    return name.removeprefix(prefix)


def schema(kind: type[Message], /, *, without: Iterable[str] = (), **more: dict[str, Any]) -> dict[str, Any]:
    """JSON Schema of what `plain` makes of a message; `without` and `more` say what a view leaves out and adds."""
    return _object(kind.DESCRIPTOR, set(without), more)


def _object(descriptor: Field, without: set[str], more: Mapping[str, Any]) -> dict[str, Any]:
    members = {field.name: _schema(field) for field in descriptor.fields if field.name not in without}
    return {"title": descriptor.name, "type": "object", "properties": members | dict(more)}


def _schema(field: Field) -> dict[str, Any]:
    if _is_map(field):
        return {"type": "object", "additionalProperties": _one(field.message_type.fields_by_name["value"])}
    return {"type": "array", "items": _one(field)} if field.is_repeated else _one(field)


def _one(field: Field) -> dict[str, Any]:
    if field.message_type is not None:
        if field.message_type.full_name == _TIMESTAMP:
            return {"type": "string", "format": "date-time"}
        return _object(field.message_type, set(), {})
    if field.enum_type is not None:
        return {"type": "string", "enum": [_short(field.enum_type, value.name) for value in field.enum_type.values]}
    return {"type": _NUMBERS.get(field.type, "integer")}


def described(what: str, shape: Mapping[str, Any], example: Any, *, media_type: str = "application/json",
              many: bool = False) -> dict[str, Any]:
    """One entry of `responses` in a route: what it means, its schema and an example."""
    whole = {"type": "array", "items": dict(shape)} if many else dict(shape)
    return {"description": what, "content": {media_type: {"schema": whole, "example": example}}}


def body(what: str, contents: Mapping[str, tuple[Mapping[str, Any], Any]], *, required: bool = True) -> dict[str, Any]:
    """`openapi_extra` of a route that reads its own body: schema and example by media type."""
    content = {media: {"schema": dict(shape), "example": example} for media, (shape, example) in contents.items()}
    return {"requestBody": {"description": what, "required": required, "content": content}}


PROBLEM: dict[str, Any] = {
    "title": "Problem", "type": "object", "required": ["title", "status", "detail"],
    "properties": {
        "type": {"type": "string"}, "title": {"type": "string"}, "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is true of the request or the world."},
        "field": {"type": "string", "description": "The member, parameter or setting it is about."},
        "place": {"type": "string", "description": "Where it was found."},
        "remedy": {"type": "string", "description": "What to do about it."},
        "request_id": {"type": "string"},
        "problems": {"type": "array", "description": "Everything that is wrong, where it is more than one thing.",
                     "items": {"type": "object", "properties": {
                         "path": {"type": "string"}, "line": {"type": "integer"}, "message": {"type": "string"},
                         "remedy": {"type": "string"}}}},
    },
}


def problem(what: str, **example: Any) -> dict[str, Any]:
    return described(what, PROBLEM, {"type": "about:blank", **example}, media_type="application/problem+json")
