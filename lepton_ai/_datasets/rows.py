"""Rows of a data set where a program wants them: Arrow, pandas, Polars, torch, or a file; fetched when asked for."""

import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, TypeVar

import pyarrow as pa

from lepton.errors import Invalid, Unavailable
from lepton_ai._datasets.elsewhere import library, tensors
from lepton_ai._files.writing import whole, writes
from lepton_ai._transport import Transport

Answer = TypeVar("Answer")
Run = Callable[[Coroutine[Any, Any, Any]], Any]

FORMATS: Final[Mapping[str, str]] = {".parquet": "parquet", ".ndjson": "ndjson", ".jsonl": "ndjson", ".arrow": "arrow",
                                     ".arrows": "arrow"}
# Before the first row comes, every label is read; a large data set takes its time.
ANSWER_S: Final = 600.0


class AsyncStoredRows:
    """Which rows of which data set; nothing is fetched before one of its methods is called, and then each time anew."""

    def __init__(self, transport: Transport, pipeline: str, asked: Mapping[str, str | int]) -> None:
        self._transport = transport
        self.pipeline = pipeline
        self.asked = dict(asked)

    def __repr__(self) -> str:
        which = ", ".join(f"{name}={value}" for name, value in self.asked.items())
        return f"rows of {self.pipeline}" + (f" ({which})" if which else "")

    async def to_arrow(self) -> pa.Table:
        """All of them in one table. Raises Missing, Invalid, Unavailable (also for an answer that broke off)."""
        async with self._fetched() as reader:
            return reader.read_all()

    async def batches(self) -> AsyncIterator[pa.RecordBatch]:
        """Piece by piece, through a temporary file: memory holds one piece, however many rows there are."""
        async with self._fetched() as reader:
            for batch in reader:
                yield batch

    async def to_pandas(self) -> Any:
        """A `pandas.DataFrame`. Raises Missing where pandas is not installed."""
        library("pandas")
        return (await self.to_arrow()).to_pandas()

    async def to_polars(self) -> Any:
        """A `polars.DataFrame`. Raises Missing where Polars is not installed."""
        polars = library("polars")
        return polars.from_arrow(await self.to_arrow())

    async def to_torch(self, columns: list[str] | None = None) -> Any:
        """A `torch.utils.data.TensorDataset`: rows whose label is known, float32 inputs, their label.

        `columns` are numeric or boolean fields, all of those when left out; a missing value is NaN. A numeric label is
        float32; any other the int64 number of its class, by `dataset.classes`. `dataset.columns` names the inputs. A
        data set without a label has inputs alone. Raises Missing where torch is not installed, Invalid.
        """
        library("torch")
        return tensors(await self.to_arrow(), columns)

    async def export(self, path: str | Path) -> Path:
        """Write a file, by its extension Parquet, JSON lines or Arrow stream; nobody ever sees half of it.

        Raises Invalid for another extension, Refused when it cannot be written.
        """
        target = Path(path)
        kind = FORMATS.get(target.suffix.lower())
        if kind is None:
            raise Invalid(f"{target.suffix or 'no extension'} is no format rows are written in", field="path",
                          place=str(target), remedy=f"use {', '.join(FORMATS)}")
        with writes(target), whole(target) as draft, draft.open("w+b") as file:
            await self._fetch(file, kind)
        return target

    async def _fetch(self, file: IO[bytes], kind: str) -> None:
        def again() -> None:
            file.seek(0)
            file.truncate()

        await self._transport.download(f"/v1/datasets/{self.pipeline}/rows", file.write, again,
                                       params={**self.asked, "format": kind}, timeout=ANSWER_S)

    @asynccontextmanager
    async def _fetched(self) -> AsyncIterator[Any]:
        with tempfile.TemporaryFile() as file:
            await self._fetch(file, "arrow")
            file.seek(0)
            try:
                with pa.ipc.open_stream(file) as reader:
                    yield reader
            except pa.ArrowInvalid as failure:
                raise Unavailable(f"the rows of {self.pipeline} came damaged: {failure}",
                                  remedy="ask again") from failure


@dataclass(frozen=True)
class StoredRows:
    """`AsyncStoredRows` for programs without an event loop."""

    rows: AsyncStoredRows
    run: Run

    def __repr__(self) -> str:
        return repr(self.rows)

    def to_arrow(self) -> pa.Table:
        """All of them in one table."""
        return self.run(self.rows.to_arrow())

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Piece by piece, through a temporary file; memory holds one piece."""
        with self._pieces() as pieces:
            while (batch := self.run(_next(pieces))) is not None:
                yield batch

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame`."""
        return self.run(self.rows.to_pandas())

    def to_polars(self) -> Any:
        """A `polars.DataFrame`."""
        return self.run(self.rows.to_polars())

    def to_torch(self, columns: list[str] | None = None) -> Any:
        """A `torch.utils.data.TensorDataset` of labelled rows; see `AsyncStoredRows.to_torch`."""
        return self.run(self.rows.to_torch(columns))

    def export(self, path: str | Path) -> Path:
        """Write a file, by its extension Parquet, JSON lines or Arrow stream."""
        written: Path = self.run(self.rows.export(path))
        return written

    @contextmanager
    def _pieces(self) -> Iterator[Any]:
        pieces: Any = self.rows.batches()
        try:
            yield pieces
        finally:
            self.run(pieces.aclose())


async def _next(pieces: AsyncIterator[pa.RecordBatch]) -> pa.RecordBatch | None:
    return await anext(pieces, None)
