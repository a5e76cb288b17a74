"""Where a table goes on: the cursor's last value, and which of the rows that bear it were taken already."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from lepton.errors import Invalid
from services.ingest.core.pulling.rows import Row
from services.ingest.core.pulling.state import Cursor

MAX_SAME = 20_000
"""Rows of one cursor value that are told apart by their content; beyond, a tie column is needed."""

Value = int | float | str | datetime | date | Decimal | UUID


class Place:
    """A cursor of a table, read and written. Without `tie`, rows of the last value are known by their content.

    A row whose content changes while its cursor does not counts as another row.
    """

    def __init__(self, cursor: Cursor) -> None:
        self.at: Value | None = _read(cursor.get("at"))
        self.tie: Value | None = _read(cursor.get("tie"))
        self.seen: Counter[str] = Counter(cursor.get("seen", {}))

    def to_cursor(self) -> Cursor:
        kept: Cursor = {"at": _write(self.at)} if self.at is not None else {}
        if self.tie is not None:
            kept["tie"] = _write(self.tie)
        if self.seen:
            kept["seen"] = dict(self.seen)
        return kept

    @property
    def shown(self) -> str:
        if self.at is None:
            return ""
        return str(self.at) if self.tie is None else f"{self.at}, {self.tie}"

    def same(self, rows: Sequence[Mapping[str, Any]]) -> list[Row]:
        """Of all rows whose cursor has the last value, those not taken yet, which are taken with this."""
        now: Counter[str] = Counter()
        fresh = []
        for values in rows:
            digest = _digest(values)
            now[digest] += 1
            if now[digest] > self.seen[digest]:
                self.seen[digest] = now[digest]
                fresh.append(Row(values, f"{self.at}/{digest}" + (f"/{now[digest]}" if now[digest] > 1 else "")))
        self._bound()
        return fresh

    def beyond(self, rows: Sequence[Mapping[str, Any]], cursor: str) -> list[Row]:
        """Rows whose cursor is greater, in its order; all are taken with this."""
        if not rows:
            return []
        last = _value(rows[-1][cursor], cursor)
        digests = [_digest(values) for values in rows]
        # A database may hold two texts for equal that differ in letters, so of text every row is remembered.
        alike = [digest for digest, values in zip(digests, rows, strict=True)
                 if isinstance(last, str) or values[cursor] == last]
        now: Counter[str] = Counter()
        taken = []
        for digest, values in zip(digests, rows, strict=True):
            now[digest] += 1
            taken.append(Row(values, f"{values[cursor]}/{digest}" + (f"/{now[digest]}" if now[digest] > 1 else "")))
        self.at, self.seen = last, Counter(alike)
        self._bound()
        return taken

    def tied(self, rows: Sequence[Mapping[str, Any]], cursor: str, tie: str) -> list[Row]:
        """Rows beyond the last cursor and tie, in their order; all are taken with this."""
        if rows:
            self.at, self.tie, self.seen = _value(rows[-1][cursor], cursor), _value(rows[-1][tie], tie), Counter()
        return [Row(values, f"{values[cursor]}/{values[tie]}") for values in rows]

    def _bound(self) -> None:
        if self.seen.total() > MAX_SAME:
            raise Invalid(f"more than {MAX_SAME} rows have the cursor value {self.at}", field="tie",
                          remedy="name a column in `tie` that tells them apart")


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(repr(list(values.items())).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _value(value: Any, column: str) -> Value:
    if isinstance(value, bool) or not isinstance(value, int | float | str | datetime | date | Decimal | UUID):
        raise Invalid(f"a {type(value).__name__} cannot be a cursor", field=column,
                      remedy="use a column of numbers, text or times, and leave out rows where it is NULL")
    return value


def _write(value: Value | None) -> list[str] | None:
    if value is None:
        return None
    # In the order of the table: a datetime is a date too.
    kind = next(name for name, one in _KINDS.items() if isinstance(value, one))
    return [kind, value.isoformat() if isinstance(value, date) else repr(value) if isinstance(value, float)
            else str(value)]


def _read(kept: Sequence[str] | None) -> Value | None:
    if kept is None:
        return None
    kind, text = kept
    if kind in ("datetime", "date"):
        return datetime.fromisoformat(text) if kind == "datetime" else date.fromisoformat(text)
    made: Value = _KINDS[kind](text)
    return made


_KINDS: Mapping[str, Any] = {"int": int, "float": float, "text": str, "datetime": datetime, "date": date,
                             "decimal": Decimal, "uuid": UUID}
