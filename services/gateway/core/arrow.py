"""What a posted Arrow stream means: the records to write, each of one partition, or every reason why not.

As of single events, values of fields are ingest's to judge. Columns are looked at all the same: what is wrong with one
is wrong with every row, and the sender is still there to be told.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lepton.contracts.arrow.columns import check_columns, dense, members_of
from lepton.contracts.arrow.entities import Numbers, partitions_of, texts_of, wrong_names
from lepton.contracts.arrow.stream import read_table, write_pieces
from lepton.contracts.pipeline import Pipeline, Problem
from lepton.errors import Invalid
from services.gateway.core.requests import MAX_PROBLEMS, InvalidBody

# A quarter of what the events topic takes in a record, in no more rows than ingest reads of so many bytes.
MAX_RECORD_BYTES = 1024 * 1024
MAX_RECORD_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class Piece:
    """One record to write: `data` holds so many rows, whose entities all belong to the partition."""

    partition: int
    rows: int
    data: bytes


def pieces(pipeline: Pipeline, partitions: int, data: bytes) -> list[Piece]:
    """Every row of the stream once, those of an entity in their order. Raises InvalidBody."""
    try:
        table = read_table(data)
        check_columns(table.schema, members_of(pipeline))
        if table.num_rows == 0:
            raise Invalid("there is no row in it", remedy="send at least one")
        names = {member: texts_of(dense(table.column(member), member))
                 for member in (pipeline.events.entity_member, pipeline.events.id)}
    except Invalid as error:
        raise InvalidBody([Problem(error.field or "(body)", 0, error.message, error.remedy or "")]) from error
    problems = [problem for member, texts in names.items() for problem in _problems(member, texts)]
    if problems:
        raise InvalidBody(problems[:MAX_PROBLEMS])
    return _split(table, partitions_of(names[pipeline.events.entity_member], partitions))


def _problems(member: str, texts: pa.StringArray) -> Iterator[Problem]:
    for rows, _, message in wrong_names(texts):
        for row in np.flatnonzero(pc.fill_null(rows, False).to_numpy(zero_copy_only=False))[:MAX_PROBLEMS].tolist():
            yield Problem(f"[{row}].{member}", 0, message)


def _split(table: pa.Table, places: Numbers) -> list[Piece]:
    found: list[Piece] = []
    for place in np.unique(places).tolist():
        mine = np.flatnonzero(places == place)
        part = table if len(mine) == table.num_rows else table.take(pa.array(mine))
        written, too_large = write_pieces(part, MAX_RECORD_BYTES, MAX_RECORD_ROWS)
        if too_large:
            raise InvalidBody([Problem(f"[{int(mine[row])}]", 0, f"is larger than {MAX_RECORD_BYTES} bytes")
                               for row in too_large[:MAX_PROBLEMS]])
        found += [Piece(place, rows, data) for rows, data in written]
    return found
