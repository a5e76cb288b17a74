"""How rows are written out piece by piece, so that a whole set is never in memory: Arrow, Parquet, JSON lines."""

import io
from typing import Literal, Protocol

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

Kind = Literal["arrow", "parquet", "ndjson"]
MEDIA_TYPES: dict[Kind, str] = {"arrow": "application/vnd.apache.arrow.stream",
                                "parquet": "application/vnd.apache.parquet", "ndjson": "application/x-ndjson"}
# Rows of a Parquet row group: enough to compress well, few enough to hold.
GROUP_ROWS = 50_000
_LINES = 5_000


class Writer(Protocol):
    """Bytes come out as they are ready, in order."""

    def write(self, rows: pa.Table) -> bytes: ...

    def close(self) -> bytes: ...


def writer(kind: Kind, schema: pa.Schema) -> Writer:
    kinds: dict[Kind, type[_Arrow | _Parquet | _Lines]] = {"arrow": _Arrow, "parquet": _Parquet, "ndjson": _Lines}
    return kinds[kind](schema)


class _Drain(io.RawIOBase):
    """A file that is only written, from which what was written is taken."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._at = 0

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        part = bytes(data)  # type: ignore[call-overload]
        self._parts.append(part)
        self._at += len(part)
        return len(part)

    def tell(self) -> int:
        return self._at

    def taken(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


class _Arrow:
    def __init__(self, schema: pa.Schema) -> None:
        self._drain = _Drain()
        self._writer = pa.ipc.new_stream(pa.PythonFile(self._drain, mode="w"), schema,
                                         options=pa.ipc.IpcWriteOptions(compression="lz4"))

    def write(self, rows: pa.Table) -> bytes:
        self._writer.write_table(rows)
        return self._drain.taken()

    def close(self) -> bytes:
        self._writer.close()
        return self._drain.taken()


class _Parquet:
    def __init__(self, schema: pa.Schema) -> None:
        self._drain = _Drain()
        self._writer = pq.ParquetWriter(pa.PythonFile(self._drain, mode="w"), schema, compression="zstd")
        self._waiting: list[pa.Table] = []
        self._rows = 0

    def write(self, rows: pa.Table) -> bytes:
        self._waiting.append(rows)
        self._rows += rows.num_rows
        if self._rows >= GROUP_ROWS:
            self._flush()
        return self._drain.taken()

    def close(self) -> bytes:
        self._flush()
        self._writer.close()
        return self._drain.taken()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.concat_tables(self._waiting), row_group_size=GROUP_ROWS)
        self._waiting, self._rows = [], 0


class _Lines:
    """Times as RFC 3339, bytes as base64, numbers that are not finite as null."""

    def __init__(self, schema: pa.Schema) -> None:
        self._encoder = msgspec.json.Encoder()

    def write(self, rows: pa.Table) -> bytes:
        lines = bytearray()
        for start in range(0, rows.num_rows, _LINES):
            for row in rows.slice(start, _LINES).to_pylist():
                lines += self._encoder.encode(row) + b"\n"
        return bytes(lines)

    def close(self) -> bytes:
        return b""
