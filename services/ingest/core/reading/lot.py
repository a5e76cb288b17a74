"""What could be read of a batch of raw events as columns, whichever form its records had."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from lepton.contracts.reading.columns import REPAIRS_TYPE
from services.ingest.core.reading.column import Wholes
from services.ingest.core.reading.intake import UNKNOWN_SOURCE, Intake, Rejection, Stray

_ONE_EVENT = -1


@dataclass(slots=True)
class Lot:
    """Accepted rows in the order of their events: index i of every column is the same one."""

    ids: pa.StringArray
    entities: pa.StringArray
    """The very same array as `ids` where one member is both."""
    times: Wholes
    """Microseconds since the epoch."""
    positions: Wholes
    """Which record of the batch each row came in."""
    sources: pa.StringArray
    values: list[pa.Array]
    """One array a field, in the Pipeline's order, of its type in a features batch."""
    rejections: list[Rejection]
    repairs: pa.Array | None = None
    """What was changed in each row, as in a features batch; None when nothing was."""
    labels: list[Any] = field(default_factory=list)
    """The label of each row, None where it has none; empty for a pipeline whose labels do not come with events."""
    traces: list[str | None] | None = None
    """Traceparent of each row's event; None when no row has one."""
    numbers: Wholes | None = None
    """Which row of its record each is, -1 where the record is one event; None when all are."""
    tables: dict[int, pa.Table] = field(default_factory=dict)
    """Records of several events as they came, by position."""
    strays: list[tuple[int, Stray]] = field(default_factory=list)
    """What goes on to another partition, and the position of the record it was in."""

    def __len__(self) -> int:
        return len(self.positions)

    @classmethod
    def of(cls, intake: Intake) -> "Lot":
        """Of records of one event each."""
        ids = pa.array(intake.ids, pa.string())
        entities = ids if intake.entities is intake.ids else pa.array(intake.entities, pa.string())
        size = len(ids)
        if not any(intake.envelopes):
            sources, traces = repeated(UNKNOWN_SOURCE, size), None
        else:
            sources = pa.array([UNKNOWN_SOURCE if one is None else one.source for one in intake.envelopes],
                               pa.string())
            traces = some([None if one is None else one.traceparent for one in intake.envelopes])
        return cls(ids, entities, micros_of(intake.times) if size else np.zeros(0, np.int64),
                   np.array(intake.positions, np.int64), sources, intake.values, intake.rejections, intake.repairs,
                   intake.labels, traces)

    def shifted(self, start: int) -> "Lot":
        """As a part of a batch in which `start` records come before; of single events only."""
        return self if not start else replace(
            self, positions=self.positions + start,
            rejections=[replace(one, position=start + one.position) for one in self.rejections])

    def take(self, rows: Wholes) -> "Lot":
        """Go on with the rows at these indexes, in this order; of single events only."""
        chosen = pa.array(rows, pa.int64())
        ids = self.ids.take(chosen)
        return replace(
            self, ids=ids, entities=ids if self.entities is self.ids else self.entities.take(chosen),
            times=self.times[rows], positions=self.positions[rows], sources=self.sources.take(chosen),
            values=[column.take(chosen) for column in self.values],
            repairs=None if self.repairs is None else self.repairs.take(chosen),
            labels=[self.labels[row] for row in rows.tolist()] if self.labels else [],
            traces=None if self.traces is None else some([self.traces[row] for row in rows.tolist()]))

    def placed(self, positions: Wholes) -> "Lot":
        """The same where record i is the one at `positions[i]` of a batch; of single events only."""
        return replace(self, positions=positions[self.positions], rejections=[
            replace(one, position=int(positions[one.position])) for one in self.rejections])

    def rejection(self, index: int, code: str, message: str, field: str | None = None) -> Rejection:
        """Why the row at this index is turned away after all."""
        row = int(self.numbers[index]) if self.numbers is not None else _ONE_EVENT
        return Rejection(int(self.positions[index]), code, message, field, self.sources[index].as_py(),
                         None if row == _ONE_EVENT else row)

    @classmethod
    def joined(cls, parts: Sequence["Lot"]) -> "Lot":
        """All these, one after the other; there is at least one."""
        if len(parts) == 1:
            return parts[0]
        alike = all(part.ids is part.entities for part in parts)
        ids = pa.concat_arrays([part.ids for part in parts])
        repairs = traces = numbers = None
        if any(part.repairs is not None for part in parts):
            repairs = pa.concat_arrays([pa.nulls(len(part), REPAIRS_TYPE) if part.repairs is None else part.repairs
                                        for part in parts])
        if any(part.traces is not None for part in parts):
            traces = [trace for part in parts for trace in (part.traces or [None] * len(part))]
        if any(part.numbers is not None for part in parts):
            numbers = np.concatenate([np.full(len(part), _ONE_EVENT) if part.numbers is None else part.numbers
                                      for part in parts])
        return cls(
            ids, ids if alike else pa.concat_arrays([part.entities for part in parts]),
            np.concatenate([part.times for part in parts]), np.concatenate([part.positions for part in parts]),
            pa.concat_arrays([part.sources for part in parts]),
            [pa.concat_arrays(columns) for columns in zip(*(part.values for part in parts), strict=True)],
            [one for part in parts for one in part.rejections], repairs,
            [label for part in parts for label in part.labels], traces, numbers,
            {position: table for part in parts for position, table in part.tables.items()},
            [stray for part in parts for stray in part.strays])


def repeated(text: str, times: int) -> pa.StringArray:
    """A column of one text."""
    data = text.encode()
    if len(data) * times >= 2**31:
        return pa.repeat(pa.scalar(text, pa.string()), times)
    # The same, ten times as fast.
    ends = np.arange(times + 1, dtype=np.int32) * np.int32(len(data))
    return pa.Array.from_buffers(pa.string(), times, [None, pa.py_buffer(ends), pa.py_buffer(data * times)], 0)


def some(traces: list[str | None]) -> list[str | None] | None:
    """The same, or None where all of them are."""
    return traces if any(traces) else None


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
