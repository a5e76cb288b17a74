"""Writes river's Bananas (OpenML 1460: 5,300 points in the plane, in one of two shapes) as a file to upload.

    python -m examples.bananas.write bananas.csv       or .jsonl, .parquet

One point a second from the start of 2026, so that `lepton replay` has a tempo to keep.
"""

import argparse
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from river.datasets import Bananas

START = datetime(2026, 1, 1, tzinfo=UTC)


def points() -> list[dict[str, Any]]:
    """One row a point, in the order of the data."""
    return [{"point": f"b-{number:04d}", "seen_at": (START + timedelta(seconds=number)).isoformat(),
             "x": where["1"], "y": where["2"], "banana": shape}
            for number, (where, shape) in enumerate(Bananas())]  # type: ignore[no-untyped-call]  # river


def write(rows: list[dict[str, Any]], path: Path) -> None:
    """Write them in the form the name ends in. SystemExit for a form that cannot be uploaded."""
    match path.suffix:
        case ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        case ".csv":
            pyarrow.csv.write_csv(pa.Table.from_pylist(rows), path)
        case ".parquet":
            pyarrow.parquet.write_table(pa.Table.from_pylist(rows), path)
        case other:
            raise SystemExit(f"cannot write {other or 'a file without an ending'}; use .csv, .jsonl or .parquet")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, help="file to write")
    given = parser.parse_args()
    rows = points()
    write(rows, given.path)
    print(f"{given.path}: {len(rows)} points")


if __name__ == "__main__":
    main()
