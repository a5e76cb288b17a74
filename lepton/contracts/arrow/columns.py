"""Which columns a stream of events may have for a Pipeline, and of which Arrow types each; nothing is coerced."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from lepton.contracts.envelope import TRACEPARENT
from lepton.contracts.pipeline import Pipeline
from lepton.contracts.pipeline_blocks import FieldSpec
from lepton.errors import Invalid

# As many bytes of text as a whole record may be, once its dictionaries are resolved.
MAX_TEXT_BYTES = 64 * 1024 * 1024

Test = Callable[[pa.DataType], bool]


def _is_name(kind: pa.DataType) -> bool:
    return _is_text(kind) or bool(pa.types.is_integer(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _is_zoned(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) and kind.tz is not None)


def _is_numbers(kind: pa.DataType) -> bool:
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(lists and _is_number(kind.value_type))


@dataclass(frozen=True, slots=True)
class Form:
    """What a column of one kind may be: `accepts` a type, `told` as a person reads it."""

    accepts: Test
    told: str


NAME = Form(_is_name, "string or integer")
TIME = Form(lambda kind: _is_zoned(kind) or _is_number(kind),
            "timestamp with a time zone, or seconds or milliseconds since the epoch")
FORMS: Mapping[str, Form] = {
    "float": Form(_is_number, "floating point or integer"),
    "int": Form(lambda kind: bool(pa.types.is_integer(kind)), "integer"),
    "bool": Form(lambda kind: bool(pa.types.is_boolean(kind)), "bool"),
    "category": Form(_is_text, "string, plain or dictionary-encoded"),
    "text": Form(_is_text, "string, plain or dictionary-encoded"),
    "vector": Form(_is_numbers, "list of numbers"),
    "sequence": Form(_is_numbers, "list of numbers"),
    "image": Form(lambda kind: bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind)), "binary"),
    "timestamp": TIME,
}
_MEASURE = Form(lambda kind: _is_number(kind) or _is_measure(kind),
                "floating point, integer, or struct of `value` (a number) and `unit` (a string)")


def _is_measure(kind: pa.DataType) -> bool:
    return bool(pa.types.is_struct(kind) and [one.name for one in kind] == ["value", "unit"]
                and _is_number(kind.field(0).type) and _is_text(kind.field(1).type))


_PIXELS = Form(lambda kind: FORMS["vector"].accepts(kind) or FORMS["image"].accepts(kind),
               "list of numbers, or binary of a PNG or JPEG")


def form_of(spec: FieldSpec) -> Form:
    if spec.image is not None:
        return _PIXELS
    return _MEASURE if spec.accept_units else FORMS[spec.type]


@dataclass(frozen=True, slots=True)
class Member:
    """A column of a stream of events. `required`: the column must be there; its missing values are refused row by row.
    """

    form: Form
    required: bool


def members_of(pipeline: Pipeline) -> dict[str, Member]:
    """Every column that is read, by name: id, entity, time, fields, the label where it comes with the event, traces.

    A stream may have no other: a column nobody reads is most likely one misspelt.
    """
    events = pipeline.events
    found = {TRACEPARENT: Member(FORMS["text"], False), events.time: Member(TIME, False),
             events.id: Member(NAME, True), events.entity_member: Member(NAME, True)}
    label = events.label
    if label is not None and label.arrives == "with_event":
        found[label.field] = Member(FORMS[pipeline.label_type or ""], False)
    found |= {name: Member(form_of(spec), spec.required or name in (events.id, events.entity_member))
              for name, spec in pipeline.fields.items()}
    return found


def check_columns(schema: pa.Schema, members: Mapping[str, Member]) -> None:
    """Raises Invalid naming the first column that is missing, of another type, or not read at all."""
    for name, member in members.items():
        index = schema.get_field_index(name)
        if index < 0:
            if member.required:
                raise Invalid(f"there is no column {name}, which is required", field=name,
                              remedy=f"add it as {member.form.told}")
            continue
        kind = schema.field(index).type
        # Only text is worth a dictionary, and only of text can it be told how much it would unpack to.
        plain = kind.value_type if pa.types.is_dictionary(kind) and _is_text(kind.value_type) else kind
        if not pa.types.is_null(plain) and not member.form.accepts(plain):
            raise Invalid(f"column {name} holds {_told(kind)}", field=name, remedy=f"send {member.form.told}")
    for name in schema.names:
        if name not in members:
            raise Invalid(f"no column {name[:100]!r} is read", field=name[:100],
                          remedy=f"leave it out, or name one of {', '.join(list(members)[:50])}")


def dense(column: pa.ChunkedArray, name: str) -> pa.Array:
    """A column in one piece, without a dictionary. Raises Invalid when its texts would take too much memory."""
    kind = column.type
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    if not pa.types.is_dictionary(kind):
        return array
    lengths = pc.fill_null(pc.binary_length(array.dictionary), 0)
    total = pc.sum(lengths.take(array.indices)).as_py() or 0
    if total > MAX_TEXT_BYTES:
        raise Invalid(f"the texts of column {name} are {total} bytes, over the limit of {MAX_TEXT_BYTES}", field=name,
                      remedy="send fewer rows in a record")
    return array.dictionary_decode()


def _told(kind: pa.DataType) -> str:
    if pa.types.is_timestamp(kind) and kind.tz is None:
        return f"{kind} without a time zone"
    return str(kind)[:200]
