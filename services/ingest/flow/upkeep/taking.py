"""How a snapshot is taken: the segments that are stored now, named in a manifest, then looked at again."""

from datetime import UTC
from typing import Any

from lepton.clock import Clock
from lepton.contracts.pb.data_pb2 import DataCommand
from lepton.contracts.pb.pipelines_pb2 import PipelineState
from lepton.errors import Busy, Missing, Refused
from lepton.store.datasets.snapshots import FEATURES, OUTCOMES, Manifest, Snapshots, pieces_of
from lepton.store.datasets.upkeep import Stored, Upkeep
from lepton.store.documents import DocumentDatabase
from lepton.store.pipelines import Pipelines, generations_of

_TRIES = 5


class Taking:
    """Does SNAPSHOT and DROP_SNAPSHOT commands."""

    def __init__(self, database: DocumentDatabase, clock: Clock) -> None:
        self._pipelines = Pipelines(database, clock)
        self._upkeep = Upkeep(database)
        self._snapshots = Snapshots(database)
        self._clock = clock

    async def take(self, command: DataCommand) -> dict[str, Any]:
        """The id, and whether it is new. Raises Missing (no such pipeline), Refused (nothing is stored)."""
        state = await self._pipelines.get(command.pipeline)
        until = command.label_until.ToDatetime(UTC).isoformat() if command.HasField("label_until") else None
        for _ in range(_TRIES):
            segments = await self._segments(state)
            manifest = Manifest(command.pipeline, state.generation, state.spec_digest, until, pieces_of(segments))
            if not manifest.rows(FEATURES):
                raise Refused(f"pipeline {command.pipeline} has no stored rows", field="pipeline",
                              remedy="send events first, and see `lepton get rows`")
            new = await self._snapshots.create(manifest, state.spec_json, self._clock.now().timestamp(), command.issuer)
            # From here on retention sees what the snapshot holds on to. What it dropped before that is not in it.
            kept = {one.id for one in await self._segments(state)}
            if not new or all(one.id in kept for one in segments):
                return {"snapshot": manifest.id, "new": new, "rows": manifest.rows(FEATURES),
                        "outcomes": manifest.rows(OUTCOMES)}
            await self._snapshots.drop(manifest.id, command.pipeline)
        raise Busy(f"rows of pipeline {command.pipeline} are dropped faster than a snapshot can be taken")

    async def _segments(self, state: PipelineState) -> list[Stored]:
        return [one for stream in (FEATURES, OUTCOMES) for generation in generations_of(state)
                for one in await self._upkeep.segments(state.name, stream, generation)]

    async def drop(self, command: DataCommand) -> dict[str, Any]:
        """Forget a snapshot. Raises Missing for one that is not the pipeline's."""
        if not command.snapshot_id:
            raise Refused("the command names no snapshot", field="snapshot_id")
        if not await self._snapshots.drop(command.snapshot_id, command.pipeline):
            raise Missing(f"pipeline {command.pipeline} has no snapshot {command.snapshot_id}")
        return {"snapshot": command.snapshot_id, "dropped": True}
