"""How a refused row of an Arrow stream is told as it came: as a JSON object, or as a stream of its own."""

import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lepton.contracts.arrow import stream
from services.ingest.core.reading.intake import Rejection
from services.ingest.core.reading.lot import Lot


def with_originals(lot: Lot) -> list[Rejection]:
    """The rejections of a lot, each of a single row with the values of that row as they came."""
    rows: dict[int, list[int]] = {}
    for one in lot.rejections:
        if one.row is not None:
            rows.setdefault(one.position, []).append(one.row)
    if not rows:
        return list(lot.rejections)
    # Records in a row mostly have the same columns: their rows are then told together.
    alike: list[list[int]] = []
    for position in rows:
        if alike and lot.tables[alike[-1][0]].schema.equals(lot.tables[position].schema):
            alike[-1].append(position)
        else:
            alike.append([position])
    told: dict[tuple[int, int], bytes] = {}
    for positions in alike:
        places = [(position, row) for position in positions for row in rows[position]]
        told.update(zip(places, _originals(_taken([lot.tables[position] for position in positions],
                                                  [rows[position] for position in positions])), strict=True))
    for one in lot.rejections:
        if one.row is not None:
            one.original = told[one.position, one.row]
    return list(lot.rejections)


def _taken(tables: Sequence[pa.Table], rows: Sequence[Sequence[int]]) -> list[pa.Table]:
    """These rows of each of tables with the same columns."""
    if any(map(pa.types.is_dictionary, tables[0].schema.types)):
        # Each table has a dictionary of its own.
        return [table.take(pa.array(mine, pa.int64())) for table, mine in zip(tables, rows, strict=True)]
    starts = np.cumsum([0, *(table.num_rows for table in tables[:-1])])
    whole = pa.concat_tables(tables).take(pa.array(np.concatenate(
        [np.asarray(mine, np.int64) + start for mine, start in zip(rows, starts, strict=True)])))
    ends = np.cumsum([len(mine) for mine in rows]).tolist()
    return [whole.slice(end - len(mine), len(mine)) for mine, end in zip(rows, ends, strict=True)]


def _originals(parts: Sequence[pa.Table]) -> Iterator[bytes]:
    """Each row of tables with the same columns: a JSON object, or where JSON has no word for a value, a stream."""
    whole = pa.concat_tables(parts)
    try:
        plain = _plain(whole)
        told: Iterable[_Row | None] = _rows_of(plain)
        sayable = all(map(_has_words, plain.columns))
    except _UNTELLABLE:
        # Some rows are told one table at a time then, and those of a table with what cannot be told as streams.
        told, sayable = (row for part in parts for row in _objects(part)), False
    names = whole.column_names
    for number, row in enumerate(told):
        if row is not None and (sayable or all(map(_fits_json, row))):
            yield _encode({name: value for name, value in zip(names, row, strict=True) if value is not None})
        else:
            yield stream.write_table(whole.slice(number, 1).combine_chunks(), for_events=True)


_encode = msgspec.json.Encoder().encode

# The values of a row, by column.
_Row = tuple[Any, ...]
_UTC, _EPOCH = pa.timestamp("us", tz="UTC"), datetime(1970, 1, 1, tzinfo=UTC)
# No such time, no such zone.
_UNTELLABLE = (ValueError, OverflowError, LookupError, pa.ArrowException)


def _objects(table: pa.Table) -> Iterable[_Row | None]:
    try:
        return _rows_of(_plain(table))
    except _UNTELLABLE:
        return [None] * table.num_rows


def _plain(table: pa.Table) -> pa.Table:
    """With times in microseconds, as far as Python's go."""
    schema = pa.schema([
        pa.field(one.name, pa.timestamp("us", one.type.tz)) if pa.types.is_timestamp(one.type) else one
        for one in table.schema])
    return table if schema.equals(table.schema) else table.cast(schema, safe=False)


def _rows_of(table: pa.Table) -> Iterator[_Row]:
    """All of them are read before the first is given."""
    return zip(*map(_values, table.columns), strict=True)


def _values(column: pa.ChunkedArray) -> Sequence[Any]:
    if column.type != _UTC:
        values: Sequence[Any] = column.to_pylist()
        return values
    # Looking its zone up for each of them took longer than all else.
    return [None if us is None else _EPOCH + timedelta(microseconds=us) for us in column.cast(pa.int64()).to_pylist()]


def _has_words(column: pa.ChunkedArray) -> bool:
    """Whether JSON can say all of a column, as far as that is seen without looking at each value."""
    if pa.types.is_floating(column.type):
        return bool(pc.all(pc.is_finite(column), min_count=0).as_py())
    return not pa.types.is_nested(column.type)


def _fits_json(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, list):
        return all(map(_fits_json, value))
    if isinstance(value, dict):
        return all(map(_fits_json, value.values()))
    return True
