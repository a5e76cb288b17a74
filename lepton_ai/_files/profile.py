"""What the values of a column are like, gathered in one pass: kinds, extremes, how many differ, how many are there."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

import msgspec

from lepton.contracts.files.rows import MISSING_TEXTS, split, typed
from lepton.errors import Invalid
from lepton_ai._files.reading import RowFile

SAMPLE_ROWS: Final = 50_000
# A column may have one number in twenty that is none and still be meant as a number.
MOSTLY: Final = 0.95
MAX_CATEGORIES: Final = 50
MAX_INT: Final = 2**63 - 1

_json = msgspec.json.Decoder()


@dataclass(slots=True)
class Column:
    """One column. `kinds`: bool, int, float, time, numbers (a list of them), text, other."""

    name: str
    seen: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    values: Counter[str] = field(default_factory=Counter)
    low: float = math.inf
    high: float = -math.inf
    lengths: set[int] = field(default_factory=set)

    @property
    def present(self) -> int:
        return sum(self.kinds.values())

    def see(self, value: Any) -> None:
        """Take in a value as JSON, Arrow or `of_text` give it; None counts as missing."""
        if value is None or (isinstance(value, float) and not math.isfinite(value)):
            return
        kind = _kind(value)
        self.kinds[kind] += 1
        if kind in ("int", "float"):
            self.low, self.high = min(self.low, float(value)), max(self.high, float(value))
        if kind == "numbers":
            self.lengths.add(len(value))
        elif kind != "other":
            self.values[str(value)] += 1

    def only(self, *kinds: str) -> bool:
        """Whether nothing else was seen."""
        return self.present > 0 and set(self.kinds) <= set(kinds)

    def mostly(self, *kinds: str) -> bool:
        return self.present > 0 and sum(self.kinds[kind] for kind in kinds) >= MOSTLY * self.present


@dataclass(frozen=True, slots=True)
class Profile:
    """Columns of a file in its order. `rows` were looked at; `more`: there are others behind them."""

    columns: tuple[Column, ...]
    rows: int
    more: bool
    unreadable: int


def profile(file: RowFile, sample_rows: int = SAMPLE_ROWS) -> Profile:
    """Look at the first rows. Raises Invalid when there are none."""
    columns = {name: Column(name) for name in file.columns}
    rows = unreadable = 0
    more = False
    for record in file.records():
        if rows >= sample_rows:
            more = True
            break
        rows += 1
        if record.problem is not None:
            unreadable += 1
            continue
        try:
            values = record.values if record.values is not None else _values(file, record.text)
        except Invalid:
            unreadable += 1
            continue
        for name, value in values.items():
            columns.setdefault(name, Column(name)).see(value)
    if rows == unreadable:
        raise Invalid("no row can be read", place=str(file.path))
    for column in columns.values():
        column.seen = rows - unreadable
    return Profile(tuple(columns.values()), rows, more, unreadable)


def of_text(text: str) -> Any:
    """The value a text of a CSV file looks like."""
    bare = text.strip()
    if not bare or bare in MISSING_TEXTS:
        return None
    if bare.lower() in ("true", "false"):
        return bare.lower() == "true"
    value = typed("vector" if bare[0] == "[" else "float", bare)
    return text if isinstance(value, str | dict) else value


def _values(file: RowFile, record: bytes) -> Mapping[str, Any]:
    if file.format == "csv":
        texts = split(record, file.delimiter)
        if len(texts) != len(file.columns):
            raise Invalid(f"{len(texts)} values for {len(file.columns)} columns")
        return {name: of_text(text) for name, text in zip(file.columns, texts, strict=True)}
    try:
        row = _json.decode(record)
    except (ValueError, RecursionError) as failure:
        raise Invalid("not JSON") from failure
    if not isinstance(row, dict):
        raise Invalid("not a JSON object")
    return row


def _kind(value: Any) -> str:
    match value:
        case bool():
            return "bool"
        case int():
            return "int" if abs(value) <= MAX_INT else "text"
        case float() | Decimal():
            return "float"
        case date() | datetime():
            return "time"
        case str():
            return "time" if _is_time(value.strip()) else "text"
        case list() | tuple() if value and _numbers(value):
            return "numbers"
    return "other"


def _numbers(values: Iterable[Any]) -> bool:
    return all(isinstance(one, int | float) and not isinstance(one, bool) for one in values)


def _is_time(text: str) -> bool:
    # Bare digits are a number before they are a date.
    if not 10 <= len(text) <= 35 or text[4:5] != "-":
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
