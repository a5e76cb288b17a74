"""How accepted rows get into the store: in bulk, each offset once, off the hot path."""

import asyncio
import hashlib
from collections.abc import Callable, Sequence

import pyarrow as pa

from lepton.clock import Clock
from lepton.contracts import features
from lepton.contracts.pb.outcomes_pb2 import Outcome
from lepton.store.datasets.upkeep import Upkeep
from lepton.store.documents import DocumentDatabase
from lepton.store.segments import Segments
from services.ingest.flow.accepting import Spec
from services.ingest.flow.upkeep.forgetting import Forgetting, taken_out

FEATURES, OUTCOMES = "features", "outcomes"


class Keeping:
    """Rows of a pipeline's features and outcomes into segments, each offset once, less those of erased entities."""

    def __init__(self, database: DocumentDatabase, spec: Callable[[], Spec], forgetting: Forgetting,
                 clock: Clock) -> None:
        self._segments = Segments(database)
        self._upkeep = Upkeep(database)
        self._spec = spec
        self._forgetting = forgetting
        self._clock = clock

    async def next_offset(self, stream: str, partition: int) -> int:
        """Where to read on. Raises Unavailable."""
        spec = self._spec()
        found = await self._segments.next_offset(stream, spec.name, spec.generation, partition)
        # Whoever wrote the last segment may have been killed before it saw that somebody was erased meanwhile.
        await self._forgetting.settle(spec.name, await self._upkeep.last(spec.name, stream, spec.generation, partition))
        return found

    async def keep_features(self, partition: int, first: int, next_offset: int, values: Sequence[bytes]) -> int:
        """Rows kept. The values are feature records of one schema. Raises Refused when somebody else was faster."""
        if len(values) == 1:
            rows, data = int(features.decode_batch(values[0]).num_rows), values[0]
        else:
            table = pa.Table.from_batches([features.decode_batch(value) for value in values]).combine_chunks()
            rows, data = int(table.num_rows), features.encode_table(table)
        return await self._append(FEATURES, partition, (first, next_offset), rows, data)

    async def keep_outcomes(self, partition: int, first: int, next_offset: int, outcomes: Sequence[Outcome]) -> int:
        table = features.outcome_table(self._spec().pipeline, outcomes)
        return await self._append(OUTCOMES, partition, (first, next_offset), len(outcomes),
                                  features.encode_table(table))

    async def _append(self, stream: str, partition: int, offsets: tuple[int, int], rows: int, data: bytes) -> int:
        spec = self._spec()
        erased = await self._forgetting.known(spec.name)
        if erased:
            data, removed = await asyncio.to_thread(taken_out, stream, data, erased)
            rows -= removed
        await self._segments.append(stream, spec.name, spec.generation, partition, offsets[0], offsets[1], rows, data,
                                    hashlib.sha256(data).hexdigest(), erasures=erased.seq,
                                    stored_at_s=self._clock.now().timestamp())
        if (await self._forgetting.known(spec.name)).seq != erased.seq:
            await self._forgetting.settle(spec.name, await self._upkeep.at(
                spec.name, stream, spec.generation, partition, offsets[0]))
        return rows
