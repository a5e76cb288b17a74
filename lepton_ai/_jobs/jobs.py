"""Whole files answered by a model: all rows by one version, and none twice or missing after a kill."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lepton.errors import Invalid, LeptonError, Refused
from lepton_ai._datasets.rows import AsyncStoredRows
from lepton_ai._files.reading import RowFile, open_rows
from lepton_ai._jobs.parts import ANSWERS, Parts
from lepton_ai._jobs.reading import Item, Reading
from lepton_ai._predicting.messages import Question
from lepton_ai._transport import Transport

PART_ROWS: Final = 4000
ROWS_PER_CALL: Final = 500
EXPLAINED_PER_CALL: Final = 32
STORED: Final = "rows.parquet"
"""A data set's rows on disk while its job goes on: those of a later attempt are the same ones."""
STORED_KEEP: Final = ("_event_id", "_entity")

OnPart = Callable[[float, int], object]


@dataclass(frozen=True, slots=True)
class Answered:
    """What a job came to. `failed` rows have an error instead of an answer; `left_out` columns were not asked about."""

    out: Path
    version: int
    rows: int
    failed: int
    left_out: Sequence[str]


@dataclass(frozen=True, slots=True)
class Wanted:
    """`keep`: columns of the input that stand beside the answers."""

    model: str
    out: Path
    keep: Sequence[str] = ()
    explain: bool = False
    over_grpc: bool = False
    delimiter: str | None = None


class PredictJobs:
    """Each call goes on where one with the same arguments was interrupted, unless told to `restart`."""

    def __init__(self, transport: Transport, wanted: Wanted, told: OnPart) -> None:
        self._transport = transport
        self._wanted = wanted
        self._told = told

    async def file(self, path: Path, *, restart: bool = False) -> Answered:
        """Answer every row of a CSV, JSONL or Parquet file. Raises Missing, Invalid, Refused, Unavailable."""
        parts = Parts(self._wanted.out, self._wanted.keep)
        source = open_rows(path, self._wanted.delimiter)
        job = await self._begun(parts, _identity(path), restart)
        return await self._answer(source, parts, int(job["version"]))

    async def stored(self, rows: AsyncStoredRows, *, restart: bool = False) -> Answered:
        """The same for the rows of a data set, as they are stored when the job begins."""
        self._wanted = Wanted(self._wanted.model, self._wanted.out, (*STORED_KEEP, *self._wanted.keep),
                              self._wanted.explain, self._wanted.over_grpc)
        parts = Parts(self._wanted.out, self._wanted.keep)
        job = await self._begun(parts, {"dataset": rows.pipeline, "asked": rows.asked}, restart)
        held = parts.home / STORED
        if not held.exists():
            await rows.export(held)
        return await self._answer(open_rows(held), parts, int(job["version"]))

    async def _begun(self, parts: Parts, source: Mapping[str, Any], restart: bool) -> Mapping[str, Any]:
        if restart:
            parts.forget()
        wanted = {"model": self._wanted.model, "keep": list(self._wanted.keep), "explain": self._wanted.explain,
                  "part_rows": PART_ROWS, "source": source}
        begun = parts.begun()
        if begun is not None:
            if begun["wanted"] != wanted:
                raise Refused("another job was begun for this file, or its input has changed since", field="--out",
                              place=str(parts.home), remedy="finish that one, give another name, or say --restart")
            return begun
        champion = int((await self._transport.get(f"/v1/models/{self._wanted.model}"))["champion"] or 0)
        if not champion:
            raise Refused(f"{self._wanted.model} has no version that answers", field="model",
                          remedy=f"see `lepton models {self._wanted.model}`")
        job = {"wanted": wanted, "version": champion}
        parts.begin(job)
        return job

    async def _answer(self, source: RowFile, parts: Parts, version: int) -> Answered:
        path = f"/v2/models/{self._wanted.model}/versions/{version}"
        reading = Reading(source, (await self._transport.get(path))["inputs"], self._wanted.keep)
        have, rows = parts.count(), 0
        for number, records in enumerate(reading.pieces(PART_ROWS)):
            rows += len(records)
            if number >= have:
                parts.put(number, await self._part([reading.item(record) for record in records], version))
            self._told(records[-1].share, rows)
        if not rows:
            parts.forget()
            raise Invalid("there are no rows", place=str(source.path))
        rows, failed = parts.finish()
        return Answered(self._wanted.out, version, rows, failed, reading.left_out)

    async def _part(self, items: Sequence[Item], version: int) -> list[dict[str, Any]]:
        good = [item for item in items if item.problem is None]
        size = EXPLAINED_PER_CALL if self._wanted.explain else ROWS_PER_CALL
        calls = [good[start:start + size] for start in range(0, len(good), size)]
        answered = await asyncio.gather(*(self._call(call, version) for call in calls))
        by_row = {item.number: answer for call, answers in zip(calls, answered, strict=True)
                  for item, answer in zip(call, answers, strict=True)}
        return [{"row": item.number, **item.kept, "version": version,
                 **_told(by_row[item.number] if item.problem is None else _problem(item.problem))} for item in items]

    async def _call(self, items: Sequence[Item], version: int) -> list[dict[str, Any]]:
        question = Question(self._wanted.model, [item.fields for item in items], version, self._wanted.explain,
                            each=True)
        if self._wanted.over_grpc:
            return await self._transport.predict(question)
        path = f"/v1/models/{self._wanted.model}/predict"
        return list((await self._transport.post(path, question.body()))["rows"])


def _identity(path: Path) -> dict[str, Any]:
    """What says later whether it is the same file still."""
    state = path.stat()
    return {"file": str(path.resolve()), "size": state.st_size, "changed": state.st_mtime_ns}


def _told(answer: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name in ANSWERS}


def _problem(error: LeptonError) -> dict[str, Any]:
    return {"error": {"outcome": type(error).__name__, "message": error.message, "field": error.field or "",
                      "remedy": error.remedy or ""}}
