"""How events in a program's memory reach a pipeline: frames as Arrow streams, mappings as lines of JSON."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from lepton.contracts.arrow.stream import CONTENT_TYPE, write_pieces
from lepton.errors import Invalid
from lepton_ai._transport import Transport

NDJSON: Final = "application/x-ndjson"
# Half of the body the gateway takes, and small enough to be sent again.
MAX_BYTES: Final = 8 * 1024 * 1024
MAX_ROWS: Final = 50_000
CHUNK_ROWS: Final = 1000


async def send(transport: Transport, pipeline: str, events: Any) -> int:
    """How many events were made durable: all. `events`: see `AsyncLeptonClient.send`.

    Sent in several requests; those before one that fails are durable, and sending all again has no second effect.
    """
    path = f"/v1/pipelines/{pipeline}/events"
    if not _is_frame(events):
        return await _send_lines(transport, path, list(events))
    table = table_of(events)
    pieces, too_large = write_pieces(table, MAX_BYTES, MAX_ROWS)
    if too_large:
        raise Invalid(f"row {too_large[0]} is larger than {MAX_BYTES} bytes", place=f"[{too_large[0]}]")
    for _, data in pieces:
        await transport.call("POST", path, content=data, headers={"content-type": CONTENT_TYPE})
    return int(table.num_rows)


async def _send_lines(transport: Transport, path: str, events: Sequence[Mapping[str, Any]]) -> int:
    for start in range(0, len(events), CHUNK_ROWS):
        lines = [json.dumps(one, ensure_ascii=False) for one in events[start:start + CHUNK_ROWS]]
        await transport.call("POST", path, content="\n".join(lines).encode(), headers={"content-type": NDJSON})
    return len(events)


def _is_frame(events: Any) -> bool:
    return isinstance(events, pa.Table | pa.RecordBatch) or hasattr(events, "__arrow_c_stream__") \
        or type(events).__module__.partition(".")[0] == "pandas"


def table_of(frame: Any) -> pa.Table:
    """An Arrow table of a pyarrow, pandas, Polars or any other frame that offers Arrow streams.

    The index of a pandas frame is left out. Raises Invalid for what does not make one.
    """
    try:
        if type(frame).__module__.partition(".")[0] == "pandas":
            table = pa.Table.from_pandas(frame, preserve_index=False)
        else:
            table = pa.table(frame) if not isinstance(frame, pa.RecordBatch) else pa.Table.from_batches([frame])
        return table.cast(pa.schema([pa.field(one.name, _plain(one.type)) for one in table.schema]))
    except (pa.ArrowException, TypeError, ValueError) as failure:
        raise Invalid(f"these are no rows: {failure}") from failure


def _plain(kind: pa.DataType) -> pa.DataType:
    """Texts and bytes that share memory, as Polars has them, spelt out: nobody could tell what they unpack to."""
    if pa.types.is_dictionary(kind):
        return pa.dictionary(kind.index_type, _plain(kind.value_type))
    if pa.types.is_string_view(kind):
        return pa.large_string()
    return pa.large_binary() if pa.types.is_binary_view(kind) else kind
