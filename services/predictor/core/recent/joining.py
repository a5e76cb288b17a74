"""How a row that names some fields, and an entity, becomes a whole one: what it leaves out is the entity's newest."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from google.protobuf import struct_pb2

from services.predictor.core import rows as named_rows
from services.predictor.core.recent.newest import Newest
from services.predictor.core.signature import Array, Feed, Signature
from services.predictor.core.streamed.fields import read_batch


def joined(rows: Sequence[struct_pb2.Struct], newest: Sequence[Newest | None], signature: Signature, max_rows: int,
           explain: bool = False) -> Feed:
    """One row for each of `rows`; a field that it names, null too, is as it says, others as in `newest`.

    Raises Invalid naming field and row.
    """
    named_rows.check_count(len(rows), max_rows, signature, explain)
    arrays, missing = named_rows.read_structs(rows, signature)
    for places, batch in _alike(newest):
        known, unknown = read_batch(batch, signature)
        for column, declared in enumerate(signature.fields):
            open_ = np.array([declared.name not in rows[place].fields for place in places])
            arrays[declared.name][places[open_]] = known[declared.name][open_]
            missing[places[open_], column] = unknown[open_, column]
    return named_rows.finished(arrays, missing, signature, explain)


def _alike(newest: Sequence[Newest | None]) -> list[tuple[Array, pa.RecordBatch]]:
    """Places of the rows of each schema, and these rows as one batch: versions of a Pipeline have other columns."""
    found: dict[bytes, list[int]] = {}
    for place, one in enumerate(newest):
        if one is not None:
            found.setdefault(one.row.schema.serialize().to_pybytes(), []).append(place)
    return [(np.array(places), pa.concat_batches([one.row for one in map(newest.__getitem__, places) if one]))
            for places in found.values()]
