"""How members of events differ from what a Pipeline declares: which are not declared, not there, or of another kind.

A few events of each batch are put by as they came, whatever becomes of them, and looked at once an interval: so events
that are as declared cost next to nothing, whoever reads them.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
import pyarrow as pa

from lepton.contracts.arrow.stream import count_rows
from lepton.contracts.envelope import CONTENT_TYPE
from lepton.contracts.pb.quality_pb2 import MemberCount, SchemaQuality
from lepton.contracts.pipeline import Pipeline
from lepton.contracts.pipeline_blocks import FieldSpec
from services.ingest.core.cloudevents import Misfit, Mode, mode_of, opened
from services.ingest.core.reading.intake import Headers, RawEvent, source_of
from services.ingest.core.schema import members_of

PER_BATCH, PER_INTERVAL = 20, 200
MAX_BYTES = 16 * 1024
"""Larger events are passed over: what is put by stays small."""
MAX_SOURCES, MAX_MEMBERS, MAX_CHARS, MAX_DECLARED = 20, 20, 64, 64
RARE = 0.05
"""Members of fewer events are not told of: a producer that names members after values must not have these told."""

NUMBER, TEXT, BOOL, LIST, OBJECT = "number", "text", "bool", "list", "object"
_KINDS = {ord('"'): TEXT, ord("{"): OBJECT, ord("["): LIST, ord("t"): BOOL, ord("f"): BOOL, ord("n"): ""}
_OF_TYPES = {"float": {NUMBER}, "int": {NUMBER}, "bool": {BOOL}, "category": {TEXT}, "text": {TEXT}, "vector": {LIST},
             "sequence": {LIST}, "image": {TEXT}, "timestamp": {TEXT, NUMBER}}
_OPEN = frozenset({TEXT, NUMBER})
"""Of names, times and labels, which may be either."""

_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


@dataclass(frozen=True, slots=True)
class Declared:
    """The kinds a value of each declared member may be, as JSON has them, and whose lack is counted."""

    kinds: Mapping[str, frozenset[str]]
    missed: Sequence[str]

    @classmethod
    def of(cls, pipeline: Pipeline) -> "Declared":
        fields = pipeline.events.fields
        members = members_of(pipeline)
        return cls({name: _kinds_of(fields[name]) if name in fields else _OPEN | {BOOL} for name in members},
                   members[:MAX_DECLARED])


class Sample(NamedTuple):
    """An event, or a record of several, as it came."""

    headers: Headers
    value: bytes
    declared: Declared


def sampled(events: Sequence[RawEvent], declared: Declared) -> list[Sample]:
    """A few events of a batch, evenly over it."""
    found = []
    for place in range(0, len(events), -(-len(events) // PER_BATCH) or 1):
        event = events[place]
        value = event.value
        if value is not None and len(value) <= MAX_BYTES:
            found.append(Sample(event.headers, value, declared))
    return found


@dataclass(slots=True)
class _Counts:
    sampled: int = 0
    undeclared: Counter[str] = field(default_factory=Counter)
    unknown: Counter[tuple[str, str]] = field(default_factory=Counter)
    """The same by the kind of their values."""
    declared: dict[str, str] = field(default_factory=dict)
    """The kinds that values of absent ones may have."""
    absent: Counter[str] = field(default_factory=Counter)
    mistyped: Counter[tuple[str, str]] = field(default_factory=Counter)

    def see(self, kinds: Mapping[str, str], declared: Declared, rows: int) -> None:
        """`kinds` of the values of its members, "" of null."""
        self.sampled += rows
        for name, kind in kinds.items():
            fitting = declared.kinds.get(name)
            if fitting is None and kind:
                self.undeclared[_told(name)] += rows
                self.unknown[_told(name), kind] += rows
            elif fitting is not None and kind and kind not in fitting:
                self.mistyped[name, kind] += rows
        for name in declared.missed:
            if not kinds.get(name):
                self.absent[name] += rows
                self.declared[name] = "|".join(sorted(declared.kinds[name]))

    def message(self, source: str) -> SchemaQuality:
        fewest = max(2.0, RARE * self.sampled)
        often = [one for one in self.undeclared.most_common(MAX_MEMBERS) if one[1] >= fewest]
        mostly = {name: kind for (name, kind), _ in reversed(self.unknown.most_common())}
        return SchemaQuality(
            source=source, sampled=self.sampled,
            undeclared=[MemberCount(member=name, kind=mostly[name], count=count) for name, count in often],
            absent=[MemberCount(member=name, kind=self.declared[name], count=count)
                    for name, count in sorted(self.absent.items())],
            mistyped=[MemberCount(member=name, kind=kind, count=count)
                      for (name, kind), count in sorted(self.mistyped.items())])


def looked_at(samples: Iterable[Sample]) -> Iterator[SchemaQuality]:
    """What samples tell of each source, by its name; those that cannot be read tell nothing."""
    by_source: dict[str, _Counts] = {}
    for one in samples:
        found = _members(one)
        if found is None:
            continue
        source, kinds, rows = found
        if source in by_source or len(by_source) < MAX_SOURCES:
            by_source.setdefault(source, _Counts()).see(kinds, one.declared, rows)
    for source, counts in sorted(by_source.items()):
        yield counts.message(source)


def _members(one: Sample) -> tuple[str, dict[str, str], int] | None:
    """Its source, the kinds of its members, and how many rows these are of."""
    source, mode = source_of(one.headers), mode_of(dict(one.headers).get(CONTENT_TYPE)) if one.headers else Mode.PLAIN
    if mode is Mode.ARROW:
        columns = _columns(one.value)
        return None if columns is None else (source, columns, min(count_rows(one.value), PER_INTERVAL))
    try:
        data = one.value
        if mode is Mode.STRUCTURED:
            envelope, data = opened(one.value, None)
            source = envelope.source
        members = _decoder.decode(data)
    except (Misfit, ValueError, RecursionError):
        return None
    return source, {name: _KINDS.get(bytes(raw)[0], NUMBER) for name, raw in members.items()}, 1


def _columns(value: bytes) -> dict[str, str] | None:
    """Kinds of the columns of a stream; one whose types are not known here is as good as there."""
    try:
        schema = pa.ipc.open_stream(value).schema
    except (pa.ArrowException, OSError, ValueError):
        return None
    return {one.name: _kind(one.type) for one in schema}


def _kind(kind: pa.DataType) -> str:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    for test, name in ((pa.types.is_integer, NUMBER), (pa.types.is_floating, NUMBER), (pa.types.is_boolean, BOOL),
                       (pa.types.is_nested, LIST), (pa.types.is_null, "")):
        if test(kind):
            return OBJECT if name == LIST and pa.types.is_struct(kind) else name
    return TEXT


def _kinds_of(spec: FieldSpec) -> frozenset[str]:
    return frozenset(_OF_TYPES[spec.type] | ({OBJECT} if spec.accept_units else set())
                     | ({TEXT} if spec.image is not None else set()))


def _told(name: str) -> str:
    """Names come from outside."""
    return "".join(letter if letter.isprintable() else "?" for letter in name[:MAX_CHARS])
