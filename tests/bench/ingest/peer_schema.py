"""The benchmark's validation for the peers, which know nothing of Lepton: the same strict types by the same msgspec."""

from datetime import datetime
from typing import Annotated, Literal

import msgspec

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class Event(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    id: Name
    entity: Name
    at: Annotated[datetime, msgspec.Meta(tz=True)]
    score: float
    amount: Annotated[float, msgspec.Meta(ge=0, le=100_000)] | None = None
    weight: float | None = None
    speed: float | None = None
    ratio: float | None = None
    items: Annotated[int, msgspec.Meta(ge=0, le=1000)] | None = None
    visits: int | None = None
    member: bool | None = None
    country: Literal["de", "us", "fr", "jp"] | None = None
    note: str | None = None


_decode = msgspec.json.Decoder(Event).decode
encode = msgspec.json.Encoder().encode


def read(value: bytes) -> Event | None:
    """None for a dead letter."""
    try:
        return _decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
