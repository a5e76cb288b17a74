"""The newest outcome of each event, on disk once there are many: what rows are joined with in bounded memory."""

import json
import sqlite3
import threading
from typing import Self

import pyarrow as pa

# Pages kept in memory; the rest of the index lies in a temporary file that vanishes with the connection.
_CACHE_KIB = 65_536


class KnownLabels:
    """Filled once, in the order outcomes were stored, then asked. Its methods block: call them in a thread.

    Of several outcomes of an event the one with the latest label time counts, of equal ones the one stored later.
    """

    def __init__(self, label_type: pa.DataType) -> None:
        self._type = label_type
        self._turn = threading.Lock()
        # An empty name is a private database that spills to a temporary file when it outgrows its cache.
        self._database = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        for statement in (f"PRAGMA cache_size = -{_CACHE_KIB}", "PRAGMA journal_mode = OFF", "PRAGMA synchronous = OFF",
                          "CREATE TABLE known (id TEXT PRIMARY KEY, label, time INTEGER) WITHOUT ROWID"):
            self._database.execute(statement)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Wait for what a thread is doing here, then let go."""
        with self._turn:
            self._database.close()

    def add(self, outcomes: pa.Table, until_us: int | None = None) -> None:
        """Outcomes of a segment; those with a label time after `until_us` (epoch microseconds) do not count."""
        times = outcomes.column("label_time").cast(pa.int64()).to_pylist()
        rows = zip(outcomes.column("event_id").to_pylist(), outcomes.column("label").to_pylist(), times, strict=True)
        with self._turn:
            self._database.execute("BEGIN")
            self._database.executemany(
                "INSERT INTO known VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET label = excluded.label, "
                "time = excluded.time WHERE excluded.time >= known.time",
                (row for row in rows if until_us is None or row[2] <= until_us))
            self._database.execute("COMMIT")

    def of(self, event_ids: list[str]) -> tuple[pa.Array, pa.Array]:
        """Label and label time of each event, null where none is known."""
        labels: list[object] = [None] * len(event_ids)
        times: list[int | None] = [None] * len(event_ids)
        with self._turn:
            found = self._database.execute(
                "SELECT wanted.key, known.label, known.time FROM json_each(?) AS wanted JOIN known "
                "ON known.id = wanted.value", (json.dumps(event_ids),)).fetchall()
        for row, label, time in found:
            labels[row], times[row] = bool(label) if pa.types.is_boolean(self._type) else label, time
        return pa.array(labels, self._type), pa.array(times, pa.int64()).cast(pa.timestamp("us", tz="UTC"))
