"""What a row of a file has become: an event, or the reason why it cannot be one."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from lepton.contracts.files.records import MAX_RECORD_BYTES
from lepton.contracts.files.rows import FileEvent, Rows
from lepton.contracts.files.tables import Told
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


def made_of_rows(rows: Rows, members: Mapping[str, str], part: Sequence[Told],
                 first: int) -> tuple[list[Made], list[bytes]]:
    """Rows as Parquet has them, by its columns, from row `first` on; of those refused, what can be shown of them."""
    made = [_made_of_values(rows, members, row, number) for number, row in enumerate(part, start=first)]
    return made, [_shown(row) if isinstance(one, Invalid) else b"" for one, row in zip(made, part, strict=True)]


def _made_of_values(rows: Rows, members: Mapping[str, str], row: Told, number: int) -> Made:
    try:
        if isinstance(row, Invalid):
            raise Invalid(row.message, field=members.get(row.field or ""))
        event = rows.from_row({members[name]: value for name, value in row.items()}, number)
        if len(event.value) > MAX_RECORD_BYTES:
            raise Invalid("too_large: the record is longer than a megabyte")
        return event
    except Invalid as error:
        return error


def _shown(row: Told) -> bytes:
    """What no value could be made of is not shown."""
    return b"" if isinstance(row, Invalid) else repr(row).encode("utf-8", "replace")
