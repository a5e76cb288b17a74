"""What the headers of a dead letter say, and which records of a dead-letter topic are no letters but marks on them."""

import re
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from lepton.bus.records import Headers, Record
from lepton.contracts.envelope import ID, SOURCE

PREFIX: Final = "lepton-dead-"
REASON: Final = PREFIX + "reason"
FIELD: Final = PREFIX + "field"
PLACE: Final = PREFIX + "place"
ATTEMPTS: Final = PREFIX + "attempts"
AT: Final = PREFIX + "at"
SERVICE: Final = PREFIX + "service"
# A record with one of these headers is no letter: it says that the letter at the place it names went back to its
# topic, or that nobody wants to see it any more.
REPLAYED: Final = "lepton-replayed"
DISCARDED: Final = "lepton-discarded"
MARKS: Final = (REPLAYED, DISCARDED)

_ORIGIN = re.compile(r"[A-Za-z0-9._-]+/([0-9]+)@[0-9]+(?:#[0-9]+)?")
_CODE = re.compile(r"([a-z][a-z_]*): ")


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter as it is read back: `record` lies in the dead-letter topic, `origin` is where it came from."""

    record: Record
    origin: str
    reason: str
    field: str | None
    attempts: int
    at: datetime | None
    service: str
    replayed: bool = False
    discarded: bool = False

    @property
    def origin_partition(self) -> int | None:
        """None for what never was a record, such as a row of a file."""
        found = _ORIGIN.fullmatch(self.origin)
        return int(found[1]) if found else None

    @property
    def settled(self) -> bool:
        """Whether somebody has dealt with it."""
        return self.replayed or self.discarded

    @property
    def code(self) -> str:
        """The first word of a reason like `wrong_type: Expected …`; empty where it has none."""
        found = _CODE.match(self.reason)
        return found[1] if found else ""

    def header(self, name: str) -> str:
        """A header of the original, empty when it has none; what is no text shows as well as it can."""
        return next((value.decode("utf-8", "replace") for header, value in self.record.headers if header == name), "")

    @property
    def source(self) -> str:
        return self.header(SOURCE)

    @property
    def event_id(self) -> str:
        return self.header(ID)


def read_letter(record: Record) -> Letter:
    """A letter as far as its headers go; whether it was dealt with, only marks further on say."""
    told = {name: value.decode("utf-8", "replace") for name, value in record.headers if name.startswith(PREFIX)}
    attempts = told.get(ATTEMPTS, "")
    return Letter(record, told.get(PLACE, ""), told.get(REASON, ""), told.get(FIELD),
                  int(attempts) if attempts.isdigit() else 1, _time(told.get(AT)), told.get(SERVICE, ""))


def mark_of(record: Record) -> tuple[str, str] | None:
    """(REPLAYED or DISCARDED, place of the letter) of a mark; None of a letter."""
    return next(((name, value.decode("utf-8", "replace")) for name, value in record.headers if name in MARKS), None)


def shortened(letter: Letter, keep_bytes: int | None) -> Letter:
    """The letter with its value cut to so many bytes; None: whole."""
    value = letter.record.value
    if keep_bytes is None or value is None or len(value) <= keep_bytes:
        return letter
    return replace(letter, record=letter.record._replace(value=value[:keep_bytes]))


def without_ours(headers: Headers) -> Headers:
    """Headers of the original alone."""
    return tuple(pair for pair in headers if not pair[0].startswith(PREFIX))


def _time(text: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
