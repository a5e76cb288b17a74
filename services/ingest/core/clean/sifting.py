"""What becomes of every row that could be read: kept, a duplicate, or turned away, each judged as if it came alone.

Rows are judged in order, each by what was kept before it, and only vectorised where that gives the same: a replay may
cut the same rows into other batches and must come to the same end.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from lepton.contracts.pipeline import Pipeline
from services.ingest.core.clean.content import digests
from services.ingest.core.clean.past import Past
from services.ingest.core.clean.policies import BoolMatrix, Bounds, Cleaning
from services.ingest.core.clean.sieve import Known, Sieve, Unlike
from services.ingest.core.clean.times import Timed, Times
from services.ingest.core.clean.turned import Turned
from services.ingest.core.dedupe import keys_of
from services.ingest.core.keys.keys import Keys
from services.ingest.core.keys.table import Places
from services.ingest.core.reading.columnar import broker_us_of
from services.ingest.core.reading.intake import RawEvent
from services.ingest.core.reading.lot import Lot
from services.ingest.core.steps.notes import Note
from services.ingest.core.steps.statistics import Outlook, matrix

Array = np.ndarray[Any, np.dtype[Any]]
TIME = pa.timestamp("us", tz="UTC")
DUPLICATE_CONTENT = "duplicate_content"


@dataclass(frozen=True, slots=True)
class Sifted:
    """Every row of the lot is in one of `kept`, `duplicates`, `repeated` and `turned`. All rows are indexes."""

    kept: Places
    keys: Keys
    """Of the kept rows, for remembering; `contents` likewise, empty where the Pipeline does not ask."""
    contents: Keys
    duplicates: int
    repeated: list[Turned]
    turned: list[Turned]
    outlying: BoolMatrix | None
    """All rows by fields."""
    occurred: pa.Array
    """Event times of all rows."""
    timed: Timed
    moved: Note
    """Rows whose time was set to the broker's."""


class Sifting:
    """The policies of one Pipeline version."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._cleaning = Cleaning(pipeline)
        self._times = Times(pipeline.clean)
        self._content = pipeline.clean.duplicates.content and pipeline.events.dedupe_window > 0
        self._fields = len(pipeline.fields)
        self._trees = self._cleaning.method == "half_space_trees" and bool(self._cleaning.numeric)

    def sift(self, lot: Lot, events: Sequence[RawEvent], past: Past, champion: Bounds) -> Sifted:
        """`champion`: the bounds of the model that answers, which go before the partition's own."""
        occurred, timed, moved = self._time(lot, events, past)
        turned: dict[int, Turned] = {}
        for one in (*self._times.turned_away(timed), *self._cleaning.incomplete(lot.values)):
            turned.setdefault(one.index, one)
        rows = len(lot)
        candidates = np.arange(rows)
        if turned:
            candidates = np.delete(candidates, list(turned))
        keys = Keys.of(keys_of(lot.ids, lot.entities))
        contents = self._contents(lot, timed, candidates)
        sieve = Sieve(Known(past.seen, keys), Known(past.contents, contents) if contents is not None else None)
        outlying = self._judge(sieve, candidates, turned, _Rows(
            matrix([lot.values[place] for place in self._cleaning.numeric], rows), past, champion))
        repeated = [Turned(row, DUPLICATE_CONTENT, "the same entity, time and fields came under another id", None)
                    for row in sieve.repeated]
        kept = sieve.kept
        return Sifted(kept, keys if len(kept) == rows else keys.take(kept),
                      contents.take(kept) if contents is not None else keys[:0], sieve.duplicates, repeated,
                      list(turned.values()), outlying, occurred, timed, moved)

    def _contents(self, lot: Lot, timed: Timed, candidates: Places) -> Keys | None:
        """By row; empty for a row that is no candidate, and None where the Pipeline does not ask."""
        if not self._content:
            return None
        texts = [""] * len(lot)
        for row, text in digests(lot.entities, timed.times, lot.values, candidates):
            texts[row] = text
        return Keys.of(texts)

    def _time(self, lot: Lot, events: Sequence[RawEvent], past: Past) -> tuple[pa.Array, Timed, Note]:
        occurred = pa.array(lot.times).cast(TIME)
        broker = broker_us_of(events)[lot.positions]
        timed = self._times.judge(lot.times, broker, past.watermark)
        if timed.times is lot.times:
            return occurred, timed, Note(None, "future", (), ())
        rows: list[int] = np.flatnonzero(timed.future).tolist()
        return (pa.array(timed.times).cast(TIME), timed,
                Note(None, "future", rows, [occurred[row].as_py().isoformat() for row in rows]))

    def _judge(self, sieve: Sieve, candidates: Places, turned: dict[int, Turned],
               rows: "_Rows") -> BoolMatrix | None:
        """Let the sieve take the rows, stretch by stretch: bounds hold until statistics are frozen the next time."""
        rows.past.statistics.begin()
        if self._trees:
            rows.past.trees.begin()
        size, start = len(rows.numbers), 0
        outlying: BoolMatrix | None = None
        while start < size:
            outlook = self._outlook(sieve, rows)
            found = self._cleaning.outlying(rows.numbers[start:], outlook.bounds)
            if found is not None and start == 0:
                outlying = found
            elif found is not None or self._trees:
                if outlying is None:
                    outlying = np.zeros((size, self._fields), np.bool_, order="F")
                outlying[start:] = False if found is None else found
            beyond = np.flatnonzero(found.any(axis=1)) + start if found is not None and self._cleaning.quarantines \
                else np.zeros(0, np.int64)
            rest = candidates[np.searchsorted(candidates, start):]
            if len(beyond):
                rest = rest[~np.isin(rest, beyond)]
            unlike = self._unlike(rows, outlook, outlying) if self._trees and outlying is not None else None
            start = sieve.take(rest, outlook.until, unlike, size)
            self._turn(turned, beyond[beyond < start].tolist(), outlying, bool(rows.champion))
        if self._cleaning.quarantines and sieve.unlike:
            turned |= {row: Turned(row, "outlier", "is unlike the rows before it", None) for row in sieve.unlike}
        return outlying

    def _outlook(self, sieve: Sieve, rows: "_Rows") -> Outlook:
        if self._cleaning.method == "none" or (rows.champion and not self._trees):
            return Outlook(None, dict(rows.champion), len(rows.numbers) + 1)
        return rows.past.statistics.outlook(_at(rows.numbers, sieve.newest))

    def _turn(self, turned: dict[int, Turned], away: Sequence[int], outlying: BoolMatrix | None,
              champion: bool) -> None:
        usual = "what the model was trained on" if champion else "what was usual in its partition"
        for row in away:
            if outlying is not None and row not in turned:
                turned[row] = self._cleaning.outlier(row, outlying, usual)

    def _unlike(self, rows: "_Rows", outlook: Outlook, outlying: BoolMatrix) -> Unlike:
        trees, cleaning = rows.past.trees, self._cleaning

        def unlike(row: int) -> bool:
            numbers = rows.numbers[row]
            if trees.score(numbers, outlook.frozen) >= cleaning.width:
                outlying[row, cleaning.numeric] = True
                if cleaning.quarantines:
                    return True
            trees.learn(numbers, outlook.frozen)
            return False

        return unlike


@dataclass(frozen=True, slots=True)
class _Rows:
    numbers: Array
    """Numeric fields of all rows [rows, numeric], NaN where missing."""
    past: Past
    champion: Bounds


def _at(numbers: Array, places: Places) -> Array:
    """These rows, which mostly follow one another; they are not copied then."""
    if len(places) and places[-1] - places[0] == len(places) - 1:
        return numbers[places[0]:places[-1] + 1]
    return numbers[places]
