"""Writes an example's rows as a file to upload, or to make events of."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet


def write(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
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


def main(about: str | None, rows: Sequence[Mapping[str, Any]], what: str) -> None:
    """The command `python -m examples.NAME.write FILE`."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, help="file to write")
    given = parser.parse_args()
    write(rows, given.path)
    print(f"{given.path}: {len(rows)} {what}")
