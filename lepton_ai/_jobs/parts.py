"""Answers of a job on disk: whole parts that survive a kill, and the file made of them when all are there."""

import csv
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from lepton.errors import Invalid, Refused
from lepton_ai._files.writing import whole, writes

FORMATS: Final = (".csv", ".jsonl", ".ndjson", ".parquet")
ANSWERS: Final = ("version", "number", "low", "high", "label", "score", "probabilities", "values", "top",
                  "attributions", "attribution_parts", "error", "error_field", "remedy")
"""Columns of an answer where there are columns; what has members itself is JSON in one text."""
_TYPES: Final = {"row": pa.int64(), "version": pa.int64(),
                 **dict.fromkeys(("number", "low", "high", "score"), pa.float64())}
_JOB: Final = "job.json"

Line = Mapping[str, Any]


class Parts:
    """Beside `out`, in `<out>.parts`. `keep`: columns of the input that stand before the answer."""

    def __init__(self, out: Path, keep: Sequence[str]) -> None:
        if out.suffix.lower() not in FORMATS:
            raise Invalid(f"{out.suffix or 'no extension'} is no format answers are written in", field="--out",
                          place=str(out), remedy=f"use {', '.join(FORMATS)}")
        taken = [name for name in keep if name in ("row", *ANSWERS)]
        if taken:
            raise Invalid(f"a column {taken[0]!r} is the answer's own", field="--keep", remedy="rename it in the input")
        self.out = out
        self.home = out.with_name(out.name + ".parts")
        self._columns = ("row", *keep, *ANSWERS)

    def begun(self) -> dict[str, Any] | None:
        """What the job was that was begun here; None for none."""
        try:
            found: dict[str, Any] = json.loads((self.home / _JOB).read_bytes())
        except FileNotFoundError:
            return None
        return found

    def begin(self, job: Mapping[str, Any]) -> None:
        """Raises Refused where a file would be lost, or none can be written."""
        if self.out.exists():
            raise Refused("the file is there already", field="--out", place=str(self.out),
                          remedy="move it away, or give another name")
        with writes(self.home):
            self.home.mkdir(parents=True, exist_ok=True)
        self._write(self.home / _JOB, json.dumps(job).encode())

    def forget(self) -> None:
        """As if no job had been begun."""
        shutil.rmtree(self.home, ignore_errors=True)

    def count(self) -> int:
        """Parts that are there, from the first on without a gap."""
        found = 0
        while self._part(found).exists():
            found += 1
        return found

    def put(self, number: int, lines: Sequence[Line]) -> None:
        """Keep the answers of one part: all of them, or none when the process dies here. Raises Refused by the disk."""
        self._write(self._part(number), b"".join(json.dumps(line).encode() + b"\n" for line in lines))

    def finish(self) -> tuple[int, int]:
        """Make the file, at once whole, and let go of the parts; rows, and how many of them have no answer.

        Raises Refused by the disk; the parts stay.
        """
        counted = [0, 0]
        # Among the parts, where a kill leaves nothing that the next try does not write anew.
        draft = self.home / "draft"
        with writes(self.out):
            self._join(draft, self._counting(counted))
            draft.replace(self.out)
        self.forget()
        return counted[0], counted[1]

    def _join(self, draft: Path, parts: Iterator[list[dict[str, Any]]]) -> None:
        match self.out.suffix.lower():
            case ".csv":
                with draft.open("w", newline="", encoding="utf-8") as file:
                    writer = csv.writer(file)
                    writer.writerow(self._columns)
                    for lines in parts:
                        writer.writerows([self._flat(line) for line in lines])
            case ".parquet":
                schema = pa.schema([(name, _TYPES.get(name, pa.string())) for name in self._columns])
                with pq.ParquetWriter(draft, schema) as writer:
                    for lines in parts:
                        columns = zip(*map(self._flat, lines), strict=True)
                        writer.write_table(pa.table([pa.array(values, kind) for values, kind in zip(
                            columns, schema.types, strict=True)], schema=schema))
            case _:
                with draft.open("wb") as plain:
                    for lines in parts:
                        plain.writelines(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines)

    def _counting(self, counted: list[int]) -> Iterator[list[dict[str, Any]]]:
        for number in range(self.count()):
            lines = [json.loads(line) for line in self._part(number).read_bytes().splitlines()]
            counted[0] += len(lines)
            counted[1] += sum("error" in line for line in lines)
            yield lines

    def _flat(self, line: Line) -> list[Any]:
        error = line.get("error")
        told = {**line, "error": error["message"], "error_field": error["field"], "remedy": error["remedy"]} \
            if error else line
        return [_cell(told.get(name), name) for name in self._columns]

    def _part(self, number: int) -> Path:
        return self.home / f"{number:08}.jsonl"

    @staticmethod
    def _write(path: Path, data: bytes) -> None:
        with writes(path), whole(path) as draft, draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


def _cell(value: Any, name: str) -> Any:
    if value is None or isinstance(value, str) or name in _TYPES:
        return value
    return json.dumps(value, ensure_ascii=False)
