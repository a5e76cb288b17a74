"""Where a record of a CSV or JSONL file ends, found in pieces of the file as they come."""

from dataclasses import dataclass
from typing import Final, Literal

Format = Literal["csv", "jsonl", "parquet"]
FORMATS: Final[tuple[Format, ...]] = ("csv", "jsonl", "parquet")

MAX_RECORD_BYTES: Final = 1024 * 1024
"""A longer record is refused: it is held whole, and an event has to fit its topic."""

_BOM: Final = b"\xef\xbb\xbf"
_QUOTE: Final = b'"'


@dataclass(frozen=True, slots=True)
class Piece:
    """Whole records of a piece of a file, without their line breaks; `ends[i]` is where record i ends in the piece.

    `rest` begins a record whose end is still to come. `too_long`: it is longer than a record may be, so everything up
    to the next line break belongs to it and is of no use.
    """

    records: list[bytes]
    ends: list[int]
    rest: bytes
    too_long: bool = False


def cut(kind: Format, data: bytes, *, delimiter: str = ",", last: bool = False) -> Piece:
    """Find the records in `data`, which begins where a record begins; lines of nothing are no records.

    `last`: the file ends here, so what has no line break ends too. A CSV value in quotes may hold line breaks
    (RFC 4180); a quote inside a bare value is part of it.
    """
    records: list[bytes] = []
    ends: list[int] = []
    begin = at = 0
    inside = False
    mark = delimiter.encode()
    while (end := data.find(b"\n", at)) >= 0:
        if kind == "csv" and (inside or data.find(_QUOTE, at, end) >= 0):
            inside = _open(data[at:end], mark, inside)
        at = end + 1
        if inside and at - begin <= MAX_RECORD_BYTES:
            continue
        # A quote that is never closed must not swallow the file: past the limit a line break ends the record.
        inside = False
        _add(data[begin:end], at, records, ends)
        begin = at
    rest = data[begin:]
    if last and rest:
        _add(rest, len(data), records, ends)
        rest = b""
    return Piece(records, ends, rest, len(rest) > MAX_RECORD_BYTES)


def after_too_long(data: bytes) -> int | None:
    """Where in `data` a record that was too long ends; None when it goes on."""
    end = data.find(b"\n")
    return None if end < 0 else end + 1


def without_bom(data: bytes) -> bytes:
    """The beginning of a file without the mark some programs put before UTF-8."""
    return data.removeprefix(_BOM)


def _add(record: bytes, end: int, records: list[bytes], ends: list[int]) -> None:
    record = record.removesuffix(b"\r")
    if record.strip():
        records.append(record)
        ends.append(end)
    elif ends:
        ends[-1] = end


def _open(line: bytes, delimiter: bytes, inside: bool) -> bool:
    """Whether a quoted value is still open at the end of a line that begins inside of one or not."""
    at, begins = 0, True
    while True:
        if inside:
            at = line.find(_QUOTE, at)
            if at < 0:
                return True
            at += 1
            if line[at:at + 1] == _QUOTE:
                at += 1
                continue
            inside, begins = False, False
        if begins and line[at:at + 1] == _QUOTE:
            inside, at = True, at + 1
            continue
        at = line.find(delimiter, at)
        if at < 0:
            return False
        at, begins = at + len(delimiter), True
