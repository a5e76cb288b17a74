"""What a number or a time with a zone says about when something was, and which times there are."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

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


def micros_of(times: Sequence[datetime | int]) -> "np.ndarray[Any, np.dtype[np.int64]]":
    """Microseconds since the epoch of times with a zone, or of numbers that are such already."""
    if set(map(type, times)) == {datetime}:
        seconds = np.fromiter(map(datetime.timestamp, times), np.float64, len(times))  # type: ignore[arg-type]
        # As seconds a double is exact to the microsecond until 2106, and made three times as fast as Arrow reads them.
        if seconds.min() > -2.0**32 and seconds.max() < 2.0**32:
            return np.rint(seconds * 1e6).astype(np.int64)
    found: np.ndarray[Any, np.dtype[np.int64]] = pa.array(times, pa.timestamp("us", tz="UTC")).cast(
        pa.int64()).to_numpy()
    return found
