"""Records of Arrow streams as the tests of ingest write them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from lepton.bus.records import Headers, Record, partition_for
from lepton.contracts.arrow.stream import CONTENT_TYPE, write_table
from lepton.contracts.pipeline import Pipeline
from services.ingest.core.acceptance import Acceptance
from services.ingest.core.clean.past import Past
from services.ingest.core.judged import Accepted
from tests.unit.ingest.samples import record

AT = datetime(2026, 6, 1, 12, tzinfo=UTC)
ARROW: Headers = (("content-type", CONTENT_TYPE.encode()),)
TYPES: dict[str, pa.DataType] = {
    "order": pa.string(), "customer": pa.string(), "at": pa.timestamp("us", tz="UTC"), "price": pa.float64(),
    "weight": pa.float64(), "items": pa.int64(), "member": pa.bool_(), "country": pa.string(), "note": pa.string()}


def here(count: int, partition: int = 0, partitions: int = 2) -> list[str]:
    """So many entities whose events belong to the partition."""
    found: list[str] = []
    number = 0
    while len(found) < count:
        name = f"c-{number}"
        if partition_for(name.encode(), partitions) == partition:
            found.append(name)
        number += 1
    return found


def orders(count: int, partition: int = 0, **columns: Any) -> pa.Table:
    """So many good rows of the shop, with columns changed, added, or (None) left out; a column may be an array."""
    plain: dict[str, Any] = {
        "order": [f"o-{number}" for number in range(count)], "customer": here(count, partition), "at": [AT] * count,
        "price": [1.0 + number for number in range(count)]}
    given = {name: column for name, column in (plain | columns).items() if column is not None}
    return pa.table({name: column if isinstance(column, pa.Array | pa.ChunkedArray)
                     else pa.array(column, TYPES.get(name)) for name, column in given.items()})


def arrow(table: pa.Table | bytes, offset: int = 0, headers: Headers = ()) -> Record:
    return record(table if isinstance(table, bytes) else write_table(table), offset, (*ARROW, *headers))


def judged(pipeline: Pipeline, records: Sequence[Record], partition: int = 0, past: Past | None = None,
           quarantined: frozenset[str] = frozenset()) -> Accepted:
    """What the accept stage makes of the records in the partition; of a `past`, its own partition."""
    known = past if past is not None else Past.of(pipeline, partition)
    return Acceptance(pipeline, 1).judge(records, known, {}, quarantined)


def rows_of(accepted: Accepted) -> list[dict[str, Any]]:
    return accepted.batch.to_pylist() if accepted.batch is not None else []
