"""When rows alone call for a run: enough labelled rows for the first, then every so many more."""

import asyncio
from collections.abc import Sequence

from lepton.clock import Clock
from lepton.contracts.modelling.blocks import Train
from lepton.contracts.pb import training_pb2
from lepton.contracts.pb.pipelines_pb2 import PipelineState
from lepton.contracts.pb.training_pb2 import TrainingCommand
from lepton.errors import Unavailable
from lepton.store.pipelines import generations_of
from lepton.store.runs import Run
from services.trainer.core.plan import runs_due
from services.trainer.flow.planning import parsed
from services.trainer.flow.ports import Bounds, Pipelines, Stores, Tell
from services.trainer.flow.requests import ROWS, ROWS_PRIORITY
from services.trainer.flow.snapshots import labelled_rows

# Among the newest runs of a model is the last that learnt, however many promotions or tags came after it.
_LOOKED_THROUGH = 20
_WAITING = (training_pb2.RUN_STATE_QUEUED, training_pb2.RUN_STATE_RUNNING)


class RowTrigger:
    """Queues runs by row count. Their command ids follow from the count, so a restart queues none twice."""

    def __init__(self, stores: Stores, announced: Pipelines, tell: Tell, bounds: Bounds, clock: Clock) -> None:
        self._stores = stores
        self._announced = announced
        self._tell = tell
        self._bounds = bounds
        self._clock = clock
        self._asked: dict[tuple[str, int], int] = {}

    async def watch(self, stop: asyncio.Event, every_s: float) -> None:
        while not stop.is_set():
            await self._clock.sleep(every_s)
            try:
                for state in list(self._announced().values()):
                    await self.look(state)
            except Unavailable as error:
                self._tell.trouble("rows_uncounted", str(error), "segments")

    async def look(self, state: PipelineState) -> bool:
        """Queue the run that a pipeline's rows call for; False when there is none.

        While a run of the model is under way, or ended less than the row pause ago, nothing is queued: a queue of runs
        on ever the same rows would only keep the machine from its other work.
        """
        train = _train(state)
        if train is None:
            return False
        waits = parsed(state.spec_json).events.label is not None
        rows = await labelled_rows(self._stores.segments, state.name, generations_of(state), waits)
        due = runs_due(rows, train.first_rows, train.every_rows)
        # Rows are counted on through generations that keep them.
        since = generations_of(state).start
        asked = (state.name, since)
        if due <= self._asked.get(asked, 0):
            return False
        runs = await self._stores.runs.list(state.name, limit=_LOOKED_THROUGH)
        if self._at_rest(runs) or _learnt(rows, runs, train):
            return False
        command = TrainingCommand(
            command_id=f"rows-{state.name}-{since}-{due}", kind=training_pb2.TRAINING_KIND_TRAIN,
            model=state.name, promote=True, issuer="trainer", reason=ROWS,
            priority=ROWS_PRIORITY)
        command.issued_at.FromDatetime(self._clock.now())
        queued = await self._stores.runs.enqueue(command)
        self._asked[asked] = due
        return queued

    def _at_rest(self, runs: Sequence[Run]) -> bool:
        now_s = self._clock.now().timestamp()
        for run in runs:
            if run.progress.state in _WAITING:
                return True
            if run.command.reason == ROWS and now_s - run.progress.at.ToNanoseconds() / 1e9 < self._bounds.row_pause_s:
                return True
        return False


def _learnt(rows: int, runs: Sequence[Run], train: Train) -> bool:
    """Whether the newest run that took all its pipeline's rows left too few for another.

    A run waits, and takes the rows there are when it begins: more than those that called for it.
    """
    counts = (run.progress.counted_rows for run in runs if run.command.promote
              and run.progress.state != training_pb2.RUN_STATE_CANCELLED)
    counted = next((count for count in counts if count), 0)
    # Fewer rows than once: they are counted from a later generation on.
    if not train.first_rows <= counted <= rows:
        return False
    return not train.every_rows or rows - counted < train.every_rows


def _train(state: PipelineState) -> Train | None:
    if state.deleted:
        return None
    spec = parsed(state.spec_json)
    return None if spec.model is None or spec.task is None else spec.model.train
