"""Which rows of a segment are those of erased entities, told by keyed hashes without naming anybody."""

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lepton.contracts.datasets.erasure import entity_key, event_key
from lepton.contracts.features import ENTITY, EVENT_ID

FEATURES, OUTCOMES = "features", "outcomes"
_COLUMNS = {FEATURES: (ENTITY, EVENT_ID), OUTCOMES: ("entity", "event_id")}


def of_entities(stream: str, table: pa.Table, salt: bytes, keys: Collection[str]) -> npt.NDArray[np.bool_]:
    """True where a row's entity has one of `keys`."""
    column, _ = _COLUMNS[stream]
    return _matching(table.column(column), lambda text: entity_key(salt, text) in keys)


def of_events(stream: str, table: pa.Table, salt: bytes, keys: Collection[bytes]) -> npt.NDArray[np.bool_]:
    """True where a row's event id has one of `keys`."""
    if not keys:
        return np.zeros(table.num_rows, dtype=bool)
    _, column = _COLUMNS[stream]
    return _matching(table.column(column), lambda text: event_key(salt, text) in keys)


def event_keys(stream: str, table: pa.Table, salt: bytes, rows: npt.NDArray[np.bool_]) -> set[bytes]:
    """Keys of the event ids of the rows where `rows` is true."""
    _, column = _COLUMNS[stream]
    return {event_key(salt, text) for text in table.column(column).filter(pa.array(rows)).to_pylist()}


def without(table: pa.Table, rows: npt.NDArray[np.bool_]) -> pa.Table:
    """The table less the rows where `rows` is true; its schema and metadata stay, also when nothing is left."""
    return table.filter(pa.array(~rows)).combine_chunks().replace_schema_metadata(table.schema.metadata)


def _matching(column: pa.ChunkedArray, known: Any) -> npt.NDArray[np.bool_]:
    encoded = pa.chunked_array([column.combine_chunks()]).chunk(0).dictionary_encode() if len(column) else None
    if encoded is None:
        return np.zeros(0, dtype=bool)
    # Each name is hashed once, however many rows it has.
    found = np.array([known(text) for text in encoded.dictionary.to_pylist()], dtype=bool)
    matches: npt.NDArray[np.bool_] = found[encoded.indices.to_numpy(zero_copy_only=False)]
    return matches
