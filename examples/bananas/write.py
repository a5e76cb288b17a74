"""Writes river's Bananas (OpenML 1460: 5,300 points in the plane, in one of two shapes) as a file to upload.

    python -m examples.bananas.write bananas.csv       or .jsonl, .parquet

One point a second from the start of 2026, so that `lepton replay` has a tempo to keep.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from river.datasets import Bananas

from examples.writing import main

START = datetime(2026, 1, 1, tzinfo=UTC)


def points() -> list[dict[str, Any]]:
    """One row a point, in the order of the data."""
    return [{"point": f"b-{number:04d}", "seen_at": (START + timedelta(seconds=number)).isoformat(),
             "x": where["1"], "y": where["2"], "banana": shape}
            for number, (where, shape) in enumerate(Bananas())]  # type: ignore[no-untyped-call]  # river


if __name__ == "__main__":
    main(__doc__, points(), "points")
