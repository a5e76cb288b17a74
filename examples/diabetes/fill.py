"""Writes scikit-learn's diabetes data into a table of a SQLite file, row by row, as a clinic's own program would.

    python -m examples.diabetes.fill --database .local/clinic.db --rate 50     50 visits a second
    python -m examples.diabetes.fill --database .local/clinic.db --rate 0      all at once

A visit once written never changes; called again it goes on where the table ends, and begins with new patients after
the last of the data.
"""

import argparse
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sklearn.datasets import load_diabetes

MEASURES = ("age", "sex", "bmi", "blood_pressure", "cholesterol", "ldl", "hdl", "cholesterol_hdl", "triglycerides_log",
            "glucose")
TABLE = f"""create table if not exists visits (
    visit_id integer primary key, patient text not null, seen_at datetime not null,
    {', '.join(f'{name} text' if name == 'sex' else f'{name} float' for name in MEASURES)}, progression float)"""


def patients() -> list[dict[str, Any]]:
    """One row a patient, as measured; `sex` is kept as the two letters the data does not explain."""
    found = load_diabetes(scaled=False)
    rows = []
    for values, target in zip(found.data.tolist(), found.target.tolist(), strict=True):
        row = dict(zip(MEASURES, values, strict=True)) | {"progression": target}
        rows.append(row | {"sex": "a" if row["sex"] == 1 else "b"})
    return rows


def visit(number: int, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Visit `number`, counted from 0; past the last patient of the data come the same measures of others."""
    return {"patient": f"p-{number:05d}", "seen_at": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f"),
            **rows[number % len(rows)]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", type=Path, default=Path(".local/clinic.db"), help="SQLite file")
    parser.add_argument("--rows", type=int, default=442, help="how many visits to add")
    parser.add_argument("--rate", type=float, default=50.0, help="visits a second; 0 is all at once")
    given = parser.parse_args()
    rows = patients()
    given.database.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(given.database, timeout=30)) as connection:
        # Readers do not wait for the writer.
        connection.execute("pragma journal_mode=wal")
        connection.execute(TABLE)
        first = connection.execute("select count(*) from visits").fetchone()[0]
        for number in range(first, first + given.rows):
            new = visit(number, rows)
            connection.execute(f"insert into visits ({', '.join(new)}) values ({', '.join('?' * len(new))})",  # noqa: S608  own names
                               list(new.values()))
            if given.rate:
                connection.commit()
                time.sleep(1 / given.rate)
        connection.commit()
    print(f"{given.database}: {first + given.rows} visits")


if __name__ == "__main__":
    main()
