"""What a number or a time with a zone says about when something was, and which times there are."""

from datetime import datetime

from services.ingest.core.reading.intake import Rejected

EDGES = frozenset({1, 9999})
"""Times in these years can leave the calendar when their zone is taken into account."""


def no_time(time: datetime, member: str) -> Rejected:
    return Rejected("out_of_range", f"{time.isoformat()} is no time between the years 2 and 9998", member)


def epoch_us(value: float, member: str) -> int:
    """Microseconds of a time in seconds or milliseconds since the epoch; 1e11 and more is milliseconds (1973 on)."""
    in_ms = abs(value) >= 1e11
    # Years 1 to 9999. Not divided before it is known to be small: there are integers no float holds.
    scale = 1000 if in_ms else 1
    if not -62_135_596_800 * scale <= value < 253_402_300_800 * scale:
        raise Rejected("out_of_range", f"{repr(value)[:40]} is no time between the years 1 and 9999", member)
    return round(value * 1000) if in_ms else round(value * 1_000_000)
