"""Rows of a file as a model takes them: fields by name and type, columns to keep, and what is wrong with a row."""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lepton.contracts.files.rows import as_json, split, typed
from lepton.errors import Invalid
from lepton_ai._data import field_name
from lepton_ai._files.reading import Record, RowFile

KINDS: Final = {"BOOL": "bool", "BYTES": "text", "FP16": "float", "FP32": "float", "FP64": "float"}
"""What a CSV text is read as, by the datatype of the model's input; all others are whole numbers."""


@dataclass(frozen=True, slots=True)
class Item:
    """Row `number` (from 1) of the file: the model's fields, or why it has none that can be read."""

    number: int
    kept: Mapping[str, Any]
    fields: Mapping[str, Any]
    problem: Invalid | None = None


class Reading:
    """`inputs`: the model's metadata, as the Open Inference Protocol tells it. `keep`: columns to show again."""

    def __init__(self, source: RowFile, inputs: Sequence[Mapping[str, Any]], keep: Sequence[str]) -> None:
        self._source = source
        self._keep = tuple(keep)
        self._kinds = {str(one["name"]): "vector" if len(one["shape"]) > 1 else KINDS.get(one["datatype"], "int")
                       for one in inputs if not str(one["name"]).startswith("_")}
        self._fields = [self._field(name) for name in source.columns]
        if source.columns and not any(self._fields):
            raise Invalid("no column is a field of the model", field="columns", place=str(source.path),
                          remedy=f"the model takes {', '.join(self._kinds)}")
        absent = [name for name in keep if source.columns and name not in source.columns]
        if absent:
            raise Invalid(f"the file has no column {absent[0]!r}", field="--keep", place=str(source.path),
                          remedy=f"its columns are {', '.join(source.columns[:50])}")

    @property
    def left_out(self) -> list[str]:
        """Columns that are neither fields nor kept."""
        return [name for name, field in zip(self._source.columns, self._fields, strict=True)
                if field is None and name not in self._keep]

    def pieces(self, rows: int) -> Iterator[list[Record]]:
        """So many records at a time, not read yet: a piece that is answered already costs next to nothing."""
        records = self._source.records()
        while piece := list(itertools.islice(records, rows)):
            yield piece

    def item(self, record: Record) -> Item:
        """A record as a row of the model."""
        try:
            return self._read(record)
        except Invalid as problem:
            return Item(record.number, {}, {}, problem)

    def _read(self, record: Record) -> Item:
        if record.problem is not None:
            raise record.problem
        if self._source.format != "csv":
            row = self._members(record.text) if record.values is None else record.values
            fields = {name: as_json(value) for column, value in row.items()
                      if (name := self._field(column)) is not None}
            return Item(record.number, {name: as_json(row.get(name)) for name in self._keep}, fields)
        texts = split(record.text, self._source.delimiter)
        if len(texts) != len(self._fields):
            raise Invalid(f"malformed: {len(texts)} values for {len(self._fields)} columns")
        fields = {name: typed(self._kinds[name], text) for name, text in zip(self._fields, texts, strict=True)
                  if name is not None}
        kept = dict(zip(self._source.columns, texts, strict=True))
        return Item(record.number, {name: kept[name] for name in self._keep}, fields)

    def _field(self, column: str) -> str | None:
        return next((name for name in (column, field_name(column)) if name in self._kinds), None)

    @staticmethod
    def _members(text: bytes) -> Mapping[str, Any]:
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise Invalid(f"malformed: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise Invalid("malformed: not a JSON object")
        return row
