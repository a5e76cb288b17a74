"""What every store may ask of a database: single documents, changed atomically one at a time, and nothing more.

`store/mongo.py` and `store/memory.py` implement these protocols; the stores are written once, over them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

# Plain values only: str, int, float, bool, None, bytes, and lists or dicts of them. `_id` is a non-empty str.
# Times are float seconds since the epoch, so that both databases keep them exactly.
Document = dict[str, Any]

# Field -> value, or field -> {operator: value} with one of OPERATORS; all must hold.
Match = Mapping[str, Any]
OPERATORS = frozenset({"$lt", "$lte", "$gt", "$gte", "$ne", "$in"})


class Documents(Protocol):
    """One collection. Every method raises Unavailable when the database cannot answer in bounded time."""

    @property
    def name(self) -> str: ...

    async def insert(self, document: Document) -> bool:
        """Add it; False, and no effect, when its `_id` or a unique index is taken."""

    async def put(self, document: Document) -> None:
        """Add it, or replace the one with its `_id`."""

    async def get(self, key: str) -> Document | None:
        """The one whose `_id` is `key`."""

    async def find(self, match: Match, *, order: str = "_id", limit: int = 0) -> list[Document]:
        """All that match, by one field ascending (`-field`: descending); `limit` 0 means all."""

    async def swap(self, key: str, expected: Match, changes: Document) -> bool:
        """Compare and set: give the fields in `changes` their values if the document still matches `expected`.

        Atomic. False, and no effect, when it does not (or does not exist).
        """

    async def delete(self, match: Match) -> int:
        """Remove all that match; how many they were. Each is removed atomically, not all together."""


@dataclass(frozen=True, slots=True)
class Index:
    """An index the stores rely on. `unique` compares the whole tuple; an absent field counts as null."""

    collection: str
    fields: tuple[str, ...]
    unique: bool = False


class DocumentDatabase(Protocol):
    """A place for collections."""

    def collection(self, name: str) -> Documents: ...

    async def ensure(self, index: Index) -> None:
        """Create the index if it is absent."""

    async def ping(self) -> None:
        """Raises Unavailable, with the reason, when the database does not answer."""

    async def migrate(self) -> None:
        """Bring indexes up to date; running it twice, or in two processes at once, is harmless."""

    async def start(self) -> None:
        """Ping, then migrate: what a service does with its database before anything else."""

    async def stop(self) -> None: ...

    async def close(self) -> None:
        """The same as `stop`."""


# Numbers only grow; a migration that has been released is never edited.
MIGRATIONS: tuple[tuple[int, str, tuple[Index, ...]], ...] = (
    (1, "first indexes", (
        Index("pipelines", ("pending",)),
        Index("models", ("pending",)),
        Index("incidents", ("pending",)),
        Index("incidents", ("open_key",), unique=True),
        Index("segments", ("stream", "pipeline", "generation", "partition", "first"), unique=True),
        Index("segment_heads", ("stream", "pipeline", "generation")),
        Index("runs", ("state",)),
        Index("runs", ("model",)),
        Index("fs.chunks", ("files_id", "n"), unique=True),
    )),
    (2, "data sets", (
        Index("segments", ("digest",)),
        Index("segments", ("pipeline", "stored_at_s")),
        Index("segment_heads", ("pipeline",)),
        Index("segment_rewrites", ("pipeline",)),
        Index("erasure_events", ("pipeline",)),
        Index("snapshots", ("pipeline",)),
        Index("data_jobs", ("state",)),
        Index("data_jobs", ("pipeline",)),
    )),
)


async def apply_migrations(database: DocumentDatabase) -> None:
    """Apply those migrations whose number is not recorded, in order."""
    done = database.collection("migrations")
    applied = {document["_id"] for document in await done.find({})}
    for number, what, indexes in sorted(MIGRATIONS, key=lambda migration: migration[0]):
        key = f"{number:04d}"
        if key in applied:
            continue
        for index in indexes:
            await database.ensure(index)
        await done.insert({"_id": key, "what": what})


def sort_key(order: str) -> tuple[str, bool]:
    """Field and whether it is descending, from an `order` argument."""
    return (order[1:], True) if order.startswith("-") else (order, False)


def check_match(match: Match) -> None:
    """ValueError for an operator the protocol does not have, so that memory and database cannot drift apart."""
    for field, wanted in match.items():
        if field.startswith("$"):
            raise ValueError(f"{field}: only conditions on fields are supported")
        if isinstance(wanted, Mapping) and not set(wanted) <= OPERATORS:
            raise ValueError(f"{field}: unknown operator in {sorted(wanted)}")


