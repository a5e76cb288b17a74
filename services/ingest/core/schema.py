"""The strict type of an event of one Pipeline version, generated from its spec."""

import math
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

from lepton.contracts.pipeline import Pipeline
from lepton.contracts.pipeline_blocks import FieldSpec

MAX_ID_CHARS = 256
INT64 = (-(2**63), 2**63 - 1)


def members_of(pipeline: Pipeline) -> list[str]:
    """Members of an event that are read: id, entity, time, fields, and the label where it comes with the event."""
    events = pipeline.events
    members = [events.id, events.entity_member, events.time, *pipeline.fields]
    if events.label is not None and events.label.arrives == "with_event":
        members.append(events.label.field)
    return list(dict.fromkeys(members))


def struct_of(pipeline: Pipeline, attributes: dict[str, str]) -> type[msgspec.Struct]:
    """A struct of the Pipeline's members; `attributes` names each, since a member need not be an identifier.

    Id and entity may be absent here: the headers may name them.
    """
    fields: list[Any] = []
    for member, attribute in attributes.items():
        kind, required = _kind_of(pipeline, member)
        fields.append((attribute, kind) if required else (attribute, kind | None, None))
    return msgspec.defstruct("Event", fields, kw_only=True, gc=False, frozen=True,
                             rename={attribute: member for member, attribute in attributes.items()})


def _kind_of(pipeline: Pipeline, member: str) -> tuple[Any, bool]:
    spec = pipeline.events.fields.get(member)
    if spec is not None:
        return typed(spec), spec.required
    if member == pipeline.label_field:
        return typed(FieldSpec(type=pipeline.label_type, categories=pipeline.label_categories)), False  # type: ignore[arg-type]
    if member == pipeline.events.time:
        return Annotated[datetime, msgspec.Meta(tz=True)] | int | float, False
    name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID_CHARS)]
    return name | Annotated[int, msgspec.Meta(ge=INT64[0], le=INT64[1])], False


def typed(spec: FieldSpec) -> Any:
    """The strict type of a field's value, as far as a type can say it; `reading.values` says the rest.

    What may be repaired is let in.
    """
    if spec.type in _OTHERS:
        return _OTHERS[spec.type](spec)
    low, high = (None, None) if spec.range is None or spec.out_of_range in ("clip", "null") else spec.range
    if spec.accept_units:
        return float | dict[str, Any]
    if spec.type == "float":
        return float if low is None else Annotated[float, msgspec.Meta(ge=low, le=high)]
    if spec.type == "int":
        bounds = INT64 if low is None or high is None else (
            max(INT64[0], math.ceil(low)), min(INT64[1], math.floor(high)))
        return Annotated[int, msgspec.Meta(ge=bounds[0], le=bounds[1])]
    if spec.type == "bool":
        return bool
    return Literal[spec.categories] if spec.categories and not spec.normalise else str


def _vector(spec: FieldSpec) -> Any:
    numbers = Annotated[list[float], msgspec.Meta(min_length=spec.dims, max_length=spec.dims)]
    return numbers if spec.image is None else numbers | _image(spec)


def _sequence(spec: FieldSpec) -> Any:
    return Annotated[list[float], msgspec.Meta(max_length=spec.length_limit)]


def _image(spec: FieldSpec) -> Any:
    """Base64 in JSON."""
    return Annotated[bytes, msgspec.Meta(max_length=spec.bytes_limit)]


def _timestamp(spec: FieldSpec) -> Any:
    return Annotated[datetime, msgspec.Meta(tz=True)] | int | float


_OTHERS = {"vector": _vector, "sequence": _sequence, "image": _image, "timestamp": _timestamp}
