"""A trainer that is killed at an operation on its stores, and the workers it starts, killed amid their files."""

import asyncio
import random
import subprocess
import sys
from pathlib import Path

from lepton.store.artifacts import Artifacts
from lepton.store.datasets.snapshots import Snapshots
from lepton.store.documents import Document, DocumentDatabase, Documents, Index, Match
from lepton.store.models import Models
from lepton.store.runs import Runs
from lepton.store.segments import Segments
from services.trainer import worker
from services.trainer.core.weights import unpack
from services.trainer.edge.workers import RunFolder, RunFolders
from services.trainer.flow.ports import Stores
from tests.unit.trainer.world import InProcess, World

ROOT = Path(__file__).parents[4]
# What a life does to files: progress and checkpoint (two) of an epoch; model, weights, card and result (two each).
AN_EPOCH, THE_END = 3, 8
# The lease is kept beside the run, whenever time says so: it is not counted.
UNCOUNTED = "run_slots"


class Killed(BaseException):
    """No code of the trainer goes on after this."""


class Life:
    """Operations of one trainer; at the `kill`-th, done or not, it is dead. 0: it lives.

    While a worker of its own is alive nothing is counted: that one would have to die with it.
    """

    def __init__(self, kill: int, workers: "Workers", done: bool = False) -> None:
        self.kill, self.done, self.operations, self._workers = kill, done, 0, workers

    @property
    def dead(self) -> bool:
        return 0 < self.kill <= self.operations

    def before(self, collection: str) -> bool:
        """Whether this operation is the last one. Raises Killed."""
        if self.dead:
            raise Killed
        self.operations += collection != UNCOUNTED and not self._workers.busy
        if self.dead and not self.done:
            raise Killed
        return self.dead


class MortalDocuments:
    def __init__(self, inner: Documents, life: Life) -> None:
        self._inner, self._life, self.name = inner, life, inner.name

    async def insert(self, document: Document) -> bool:
        last = self._life.before(self.name)
        return self._unless(last, await self._inner.insert(document))

    async def put(self, document: Document) -> None:
        last = self._life.before(self.name)
        await self._inner.put(document)
        self._unless(last, True)

    async def get(self, key: str) -> Document | None:
        self._life.before(self.name)
        return await self._inner.get(key)

    async def find(self, match: Match, *, order: str = "_id", limit: int = 0) -> list[Document]:
        self._life.before(self.name)
        return await self._inner.find(match, order=order, limit=limit)

    async def swap(self, key: str, expected: Match, changes: Document) -> bool:
        last = self._life.before(self.name)
        return self._unless(last, await self._inner.swap(key, expected, changes))

    async def delete(self, match: Match) -> int:
        last = self._life.before(self.name)
        gone = await self._inner.delete(match)
        self._unless(last, True)
        return gone

    @staticmethod
    def _unless(last: bool, answer: bool) -> bool:
        if last:
            raise Killed
        return answer


class MortalDatabase:
    """A `DocumentDatabase` as one life of a trainer sees it."""

    def __init__(self, inner: DocumentDatabase, life: Life) -> None:
        self._inner, self._life = inner, life

    def collection(self, name: str) -> MortalDocuments:
        return MortalDocuments(self._inner.collection(name), self._life)

    async def ensure(self, index: Index) -> None:
        await self._inner.ensure(index)

    async def ping(self) -> None:
        await self._inner.ping()

    async def migrate(self) -> None:
        await self._inner.migrate()

    async def start(self) -> None:
        await self._inner.start()

    async def stop(self) -> None:
        await self._inner.stop()

    async def close(self) -> None:
        await self._inner.close()


def stores_of(world: World, database: DocumentDatabase) -> Stores:
    return Stores(Segments(database), Models(database, world.clock, world._sign), Runs(database, world.clock),
                  Artifacts(database), Snapshots(database))


class Workers:
    """The lives of workers, one after the other; `left` of them are to be killed, where `chance` says."""

    def __init__(self, chance: random.Random, epochs: int) -> None:
        self._chance, self._epochs, self.left, self.kills = chance, epochs, 0, list[int]()
        self._before: bytes | None = None
        self.busy = False
        self._process = subprocess.Popen([sys.executable, "-m", "tests.unit.trainer.running.dying"], cwd=ROOT,
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def live(self, folder: Path) -> int:
        """Its exit code, -9 where it was killed."""
        assert self._process.stdin is not None and self._process.stdout is not None
        kill = self._place(folder) if self.left else 0
        self._process.stdin.write(f"{kill} {folder}\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        if code == -9:
            self.left -= 1
            self.kills.append(kill)
        return code

    def _place(self, folder: Path) -> int:
        """Of all that is left to do for a run, any place. The third death at one place would end it as failed, so
        that a second life there gets further, or to the end of the run."""
        checkpoint = folder / worker.CHECKPOINT
        now = checkpoint.read_bytes() if checkpoint.exists() else b""
        stuck, self._before = now == self._before, now
        begun = 1 + bool(now)
        left = self._epochs - (int(unpack(now)[1]["epoch"]) if now else 0)
        if stuck and not left:
            return 0
        first = begun + AN_EPOCH + 1 if stuck else 1
        return self._chance.randint(first, begun + AN_EPOCH * left + THE_END)

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


class DyingFolder(RunFolder):
    def __init__(self, path: Path, workers: Workers) -> None:
        super().__init__(path)
        self._workers = workers

    async def launch(self) -> InProcess:  # type: ignore[override]  # a narrower port than the disk's own
        self._workers.busy = True
        try:
            return InProcess(await asyncio.to_thread(self._workers.live, self._path))
        finally:
            self._workers.busy = False


class DyingFolders(RunFolders):
    def __init__(self, root: Path, workers: Workers) -> None:
        super().__init__(root)
        self._workers = workers

    def of(self, run_id: str) -> DyingFolder:
        return DyingFolder(self._root / run_id, self._workers)
