"""What an event says, as a digest: entity, time and fields, whatever its id and source."""

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any

import msgspec
import pyarrow as pa

from services.ingest.core.reading.column import Wholes

_encode = msgspec.msgpack.Encoder().encode
_BYTES = 16


def digests(entities: pa.StringArray, times_us: Wholes, values: Sequence[pa.Array], rows: Wholes
            ) -> Iterator[tuple[int, str]]:
    """With its row, of those asked for: BLAKE2b over their msgpack; 128 bits, so that nobody finds two alike by trying.
    """
    chosen = pa.array(rows, pa.int64())
    columns: list[list[Any]] = [column.take(chosen).to_pylist() for column in values]
    for row, entity, time, fields in zip(rows.tolist(), entities.take(chosen).to_pylist(), times_us[rows].tolist(),
                                         zip(*columns, strict=True), strict=True):
        yield row, blake2b(_encode((entity, time, fields)), digest_size=_BYTES).hexdigest()
