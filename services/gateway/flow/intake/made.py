"""What a row of a file has become: an event, or the reason why it cannot be one."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from lepton.contracts.files.records import MAX_RECORD_BYTES
from lepton.contracts.files.rows import FileEvent, Rows
from lepton.errors import Invalid
from lepton.store.files.uploads import Upload

Made = FileEvent | Invalid


class Writes(Protocol):
    """Makes rows durable."""

    async def write(self, upload: Upload, version: int, made: Sequence[Made], texts: Sequence[bytes]) -> int:
        """Return once rows from `upload.rows` on are durable; how many of them were refused. Raises Unavailable."""


def made_of_text(rows: Rows, upload: Upload, columns: Sequence[str | None], record: bytes, number: int) -> Made:
    """The row in a line of CSV or JSONL."""
    try:
        if len(record) > MAX_RECORD_BYTES:
            raise Invalid("too_large: the record is longer than a megabyte")
        if upload.format == "csv":
            return rows.from_csv(record, columns, number, upload.delimiter)
        return rows.from_json(record, number)
    except Invalid as error:
        return error


def made_of_values(rows: Rows, row: Mapping[str, Any], number: int) -> Made:
    """The row as Parquet has it, by members."""
    try:
        event = rows.from_row(row, number)
        if len(event.value) > MAX_RECORD_BYTES:
            raise Invalid("too_large: the record is longer than a megabyte")
        return event
    except Invalid as error:
        return error
