"""The newest accepted row of each entity of one pipeline: how many are kept, in how much memory, and for how long."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from lepton.contracts import features
from lepton.errors import Missing
from services.predictor.core.recent.newest import Newest

_OURS = (features.EVENT_ID, features.ENTITY, features.OCCURRED_AT)
SPARE_ROWS = 4096
"""Rows that are no entity's newest any more and may stay in memory, beside as many as there are newest ones."""
MAX_BATCHES = 64
"""Batches more than these are joined into one, by schema: each costs far more than its rows."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class _Spot:
    batch: int
    row: int
    at_us: int


class Latest:
    """At most `limit` entities, those heard of longest ago forgotten first. Newest is by event time.

    Rows in memory are at most twice the entities and SPARE_ROWS.
    """

    def __init__(self, limit: int, max_age_s: float) -> None:
        self._limit = limit
        self._max_age = timedelta(seconds=max_age_s)
        # In the order in which they were heard of last.
        self._spots: dict[str, _Spot] = {}
        self._batches: dict[int, pa.RecordBatch] = {}
        self._held = 0
        self._numbered = 0

    def __len__(self) -> int:
        return len(self._spots)

    @property
    def held_rows(self) -> int:
        """Rows in memory, those no longer needed among them."""
        return self._held

    def add(self, batch: pa.RecordBatch) -> None:
        """Take accepted rows, as ingest wrote them."""
        number = self._keep(_slim(batch))
        times = batch.column(features.OCCURRED_AT).cast(pa.int64()).to_pylist()
        for row, (entity, at_us) in enumerate(zip(batch.column(features.ENTITY).to_pylist(), times, strict=True)):
            known = self._spots.get(entity)
            if known is not None:
                if at_us < known.at_us:
                    continue
                del self._spots[entity]
            self._spots[entity] = _Spot(number, row, at_us)
        for entity in list(self._spots)[:max(0, len(self._spots) - self._limit)]:
            del self._spots[entity]
        if self._held > 2 * len(self._spots) + SPARE_ROWS or len(self._batches) > MAX_BATCHES:
            self._compact()

    def find(self, entity: str, now: datetime) -> Newest:
        """Raises Missing for an entity that is not remembered, or whose newest row is too old."""
        spot = self._spots.get(entity)
        if spot is None:
            raise Missing(f"nothing is remembered of entity {entity!r}", field="entities",
                          remedy="send an event of it, or the row's fields by name; serve.entities.remember says how "
                                 "many are remembered")
        at = _EPOCH + timedelta(microseconds=spot.at_us)
        if now - at > self._max_age:
            raise Missing(f"the newest event of entity {entity!r} occurred at {at.isoformat()}, longer ago than counts",
                          field="entities", remedy="send an event of it, or raise serve.entities.max_age_s")
        row = self._batches[spot.batch].slice(spot.row, 1)
        return Newest(row, row.column(features.EVENT_ID)[0].as_py(), at)

    def _keep(self, batch: pa.RecordBatch) -> int:
        self._numbered += 1
        self._batches[self._numbered] = batch
        self._held += batch.num_rows
        return self._numbered

    def _compact(self) -> None:
        """Copy the newest rows together, and let go of the rest."""
        wanted: dict[int, list[_Spot]] = {}
        for spot in self._spots.values():
            wanted.setdefault(spot.batch, []).append(spot)
        alike: dict[bytes, list[int]] = {}
        for number, batch in self._batches.items():
            if number in wanted:
                alike.setdefault(batch.schema.serialize().to_pybytes(), []).append(number)
        old, self._batches, self._held = self._batches, {}, 0
        for numbers in alike.values():
            parts = [old[number].take(pa.array([spot.row for spot in wanted[number]])) for number in numbers]
            number = self._keep(pa.concat_batches(parts))
            moved = [spot for one in numbers for spot in wanted[one]]
            for row, spot in enumerate(moved):
                spot.batch, spot.row = number, row


def _slim(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The row's own columns: what else ingest noted of it plays no part in an answer."""
    return batch.select([name for name in batch.schema.names if name in _OURS or not name.startswith("_")])
