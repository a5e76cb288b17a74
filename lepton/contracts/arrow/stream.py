"""Arrow IPC streams as bytes: read only when what they would unpack to is bounded, written so that we read them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from lepton.contracts.arrow.metadata import Misshapen, sizes_of
from lepton.errors import Invalid

CONTENT_TYPE = "application/vnd.apache.arrow.stream"
MAX_BATCHES = 4096
_MIB = 1024 * 1024
# A stream may end without it, but then nobody can tell whether it was cut between two batches.
_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"
# Waking threads for buffers of some kilobytes takes longer than compressing them.
_LZ4 = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
_PLAIN = pa.ipc.IpcWriteOptions(use_threads=False)
_READ = pa.ipc.IpcReadOptions(use_threads=False)
# Streams of a topic have the same schema, again and again; what anyone may send must not become memory.
_MOST_KNOWN, _MOST_HEAD_BYTES = 64, 65_536
# Commonest of those that have neither parts nor a zone.
_PLAIN_TYPES = frozenset(kind.id for kind in (pa.float64(), pa.float32(), pa.int64(), pa.bool_(), pa.string()))


@dataclass(frozen=True, slots=True)
class Limits:
    """What a stream may unpack to: bytes of its buffers and rows, both growing with the bytes it came as.

    Bytes: `ratio` for one, at least `least_bytes`, never more than `most_bytes`. Rows: one for each byte, at least
    `least_rows`, never more than `most_rows`.
    """

    ratio: int
    least_bytes: int
    most_bytes: int
    least_rows: int = 1024
    most_rows: int = 1_000_000

    def bytes_for(self, size: int) -> int:
        return min(self.most_bytes, max(self.least_bytes, self.ratio * size))

    def rows_for(self, size: int) -> int:
        return min(self.most_rows, max(self.least_rows, size))


# From anyone. What is left of a fetch after these bounds is a few hundred megabytes at worst.
FOREIGN = Limits(ratio=64, least_bytes=64 * 1024, most_bytes=64 * _MIB)
# Written by us with lz4, which never unpacks to more than 255 times.
OWN = Limits(ratio=256, least_bytes=_MIB, most_bytes=1024 * _MIB, most_rows=100_000_000)


def read_table(data: bytes, limits: Limits = FOREIGN, *, what: str = "an Arrow stream") -> pa.Table:
    """The rows of a stream. Raises Invalid; see `read_batches`."""
    schema, batches = read_batches(data, limits, what=what)
    return pa.Table.from_batches(batches, schema)


def read_batches(data: bytes, limits: Limits, *, what: str,
                 without: frozenset[str] = frozenset()) -> tuple[pa.Schema, list[pa.RecordBatch]]:
    """Schema and batches of a stream, each column fully checked: lengths, offsets, indexes, UTF-8.

    Columns of `without` are in the schema, and not unpacked: the batches lack them. A stream of a schema that was read
    before costs less.
    Raises Invalid for anything else: other bytes, a cut or damaged stream, columns twice, or more than `limits` allow.
    """
    head = _head(data)
    known = _known.get((head, without))
    try:
        _check_sizes(data, limits, len(head) if known is not None else 0)
        if known is None:
            known = _learn(data, head, without)
        with pa.ipc.open_stream(data, options=known.options) as reader:
            batches = list(reader)
        for batch in batches:
            # Damaged lengths and offsets would otherwise be read as memory addresses later.
            batch.validate(full=True)
    except Misshapen as error:
        raise Invalid(f"not {what}: {error}", remedy=f"send {CONTENT_TYPE}") from error
    except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
        raise Invalid(f"not {what}: {_first_line(error)}", remedy=f"send {CONTENT_TYPE}") from error
    return known.schema, batches


@dataclass(frozen=True, slots=True)
class _Known:
    """A schema whose names and types were checked, and how what is wanted of its streams is read."""

    schema: pa.Schema
    options: pa.ipc.IpcReadOptions


_known: dict[tuple[bytes, frozenset[str]], _Known] = {}
"""By the bytes a stream begins with, its schema's message, which has no body."""


def _head(data: bytes) -> bytes:
    """The bytes of a stream's first message; empty where they are too many to be kept."""
    size = 8 + int.from_bytes(data[4:8], "little")
    return data[:size] if data[:4] == _END[:4] and size <= _MOST_HEAD_BYTES else b""


def _learn(data: bytes, head: bytes, without: frozenset[str]) -> _Known:
    """Check the schema of a stream, and keep it. Raises what `read_batches` translates, and Invalid."""
    with pa.ipc.open_stream(data, options=_READ) as reader:
        schema = reader.schema
    names = schema.names
    for kind in schema.types:
        if kind.id not in _PLAIN_TYPES:
            _check_parts(kind)
    if len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)[:100]
        raise Invalid(f"there are two columns {twice!r}", field=twice)
    wanted = [place for place, name in enumerate(names) if name not in without]
    known = _Known(schema, _READ if not without else pa.ipc.IpcReadOptions(use_threads=False, included_fields=wanted))
    if head:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        _known[head, without] = known
    return known


def _check_sizes(data: bytes, limits: Limits, begin: int = 0) -> None:
    if not data:
        raise Misshapen("there is nothing in it")
    rows = size = 0
    behind = pa.py_buffer(data).slice(begin) if begin else data
    for number, message in enumerate(pa.ipc.MessageReader.open_stream(behind)):
        told = sizes_of(message)
        rows += told.rows if message.type == "record batch" else 0
        size += told.data_bytes
        if size > (most := limits.bytes_for(len(data))):
            raise Invalid(f"{len(data)} bytes unpack to more than {most}, the most that is read of so many",
                          remedy="send it less compressed, or as smaller records")
        if max(rows, told.rows) > (most := limits.rows_for(len(data))):
            raise Invalid(f"{len(data)} bytes with more than {most} rows, the most that is read of so many",
                          remedy="send fewer rows in a record")
        if number > MAX_BATCHES:
            raise Invalid(f"more than {MAX_BATCHES} batches in a stream", remedy="send fewer, larger batches")
    if not data.endswith(_END):
        raise Misshapen("it is cut off: its end-of-stream marker is missing")


def _check_parts(kind: pa.DataType) -> None:
    """Raises UnicodeDecodeError where the name of a part of a column, at any depth, or of a time zone is no UTF-8."""
    if pa.types.is_timestamp(kind):
        _ = kind.tz
    if pa.types.is_dictionary(kind):
        _check_parts(kind.value_type)
    for part in (kind.field(number) for number in range(kind.num_fields)):
        _ = part.name
        _check_parts(part.type)


def count_rows(data: bytes) -> int:
    """Rows a stream says it has, for counting one that is not read; 1 where it does not say."""
    try:
        messages = pa.ipc.MessageReader.open_stream(data)
        rows = sum(sizes_of(message).rows for message in messages if message.type == "record batch")
    except (Misshapen, pa.ArrowException, OSError, ValueError):
        rows = 0
    return min(max(rows, 1), FOREIGN.rows_for(len(data)))


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:500]


def write_table(rows: pa.Table | pa.RecordBatch, *, for_events: bool = False) -> bytes:
    """One stream (lz4) of these rows; rows of a RecordBatch make one batch.

    `for_events`: as `FOREIGN` reads it, so not compressed where that would go further than it allows.
    """
    data = _written(rows, _LZ4)
    # What is unpacked is a little more than the columns themselves: hence half of what is allowed.
    return _written(rows, _PLAIN) if for_events and rows.nbytes > FOREIGN.bytes_for(len(data)) // 2 else data


def _written(rows: pa.Table | pa.RecordBatch, options: pa.ipc.IpcWriteOptions) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema, options=options) as writer:
        writer.write(rows)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def write_pieces(table: pa.Table, most_bytes: int, most_rows: int) -> tuple[list[tuple[int, bytes]], Sequence[int]]:
    """Streams of events of at most so many bytes and rows each, in the order of the rows, with the rows in each.

    A row is never cut: those too large for any stream are left out, and their numbers returned beside.
    """
    pieces: list[tuple[int, bytes]] = []
    too_large: list[int] = []
    waiting = [(start, min(most_rows, table.num_rows - start)) for start in range(0, table.num_rows, most_rows)]
    waiting.reverse()
    while waiting:
        start, count = waiting.pop()
        data = write_table(table.slice(start, count).combine_chunks(), for_events=True)
        if len(data) <= most_bytes:
            pieces.append((count, data))
        elif count == 1:
            too_large.append(start)
        else:
            half = count // 2
            waiting += [(start + half, count - half), (start, half)]
    return pieces, too_large
