"""How accepted rows get into the store: in bulk, each offset once, off the hot path."""

import hashlib
from collections.abc import Callable, Sequence

import pyarrow as pa

from lepton.contracts import features
from lepton.contracts.pb.outcomes_pb2 import Outcome
from lepton.store.segments import Segments
from services.ingest.flow.accepting import Spec

FEATURES, OUTCOMES = "features", "outcomes"


class Keeping:
    """Rows of a pipeline's features and outcomes into segments, each offset once."""

    def __init__(self, segments: Segments, spec: Callable[[], Spec]) -> None:
        self._segments = segments
        self._spec = spec

    async def next_offset(self, stream: str, partition: int) -> int:
        """Where to read on. Raises Unavailable."""
        spec = self._spec()
        return await self._segments.next_offset(stream, spec.name, spec.generation, partition)

    async def keep_features(self, partition: int, first: int, next_offset: int, values: Sequence[bytes]) -> int:
        """Rows kept. The values are feature records of one schema. Raises Refused when somebody else was faster."""
        if len(values) == 1:
            rows, data = int(features.decode_batch(values[0]).num_rows), values[0]
        else:
            table = pa.Table.from_batches([features.decode_batch(value) for value in values]).combine_chunks()
            rows, data = int(table.num_rows), features.encode_table(table)
        await self._append(FEATURES, partition, (first, next_offset), rows, data)
        return rows

    async def keep_outcomes(self, partition: int, first: int, next_offset: int, outcomes: Sequence[Outcome]) -> int:
        table = features.outcome_table(self._spec().pipeline, outcomes)
        await self._append(OUTCOMES, partition, (first, next_offset), len(outcomes), features.encode_table(table))
        return len(outcomes)

    async def _append(self, stream: str, partition: int, offsets: tuple[int, int], rows: int, data: bytes) -> None:
        spec = self._spec()
        await self._segments.append(stream, spec.name, spec.generation, partition, offsets[0], offsets[1], rows, data,
                                    hashlib.sha256(data).hexdigest())
