"""Who calls whom, as the watchdog that leads knows it: one document, written anew every few seconds."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from lepton.store.documents import DocumentDatabase

_KEY = "graph"


@dataclass(frozen=True, slots=True)
class Dependency:
    """Calls of one process to another part, in sum since they are known.

    `way`: request, database, write or read. `seconds`: how long all took together. `seen_s`: wall time of the newest.
    """

    caller: str
    way: str
    callee: str
    calls: int
    failed: int
    seconds: float
    seen_s: float


class Dependencies:
    """Written by the watchdog only. Raises Unavailable while the database does not answer."""

    def __init__(self, database: DocumentDatabase) -> None:
        self._documents = database.collection("dependencies")

    async def put(self, edges: Iterable[Dependency]) -> None:
        await self._documents.put({"_id": _KEY, "edges": [asdict(edge) for edge in edges]})

    async def list(self) -> list[Dependency]:
        """By caller; empty as long as no watchdog wrote any."""
        found = await self._documents.get(_KEY)
        return [Dependency(**edge) for edge in found["edges"]] if found is not None else []
