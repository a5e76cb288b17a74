"""Documents in memory, for tests and tools: the same promises as the database, gone with the process."""

import asyncio
import copy
from collections.abc import Callable, Mapping
from typing import Any

from lepton.store.documents import Document, Index, Match, apply_migrations, check_match, sort_key


class MemoryDatabase:
    """Collections of one process; every operation gives other tasks a turn first, so races show."""

    def __init__(self) -> None:
        self._collections: dict[str, MemoryDocuments] = {}

    def collection(self, name: str) -> "MemoryDocuments":
        return self._collections.setdefault(name, MemoryDocuments(name))

    async def ensure(self, index: Index) -> None:
        if index.unique:
            self.collection(index.collection).unique.add(index.fields)

    async def ping(self) -> None:
        """Memory always answers."""

    async def migrate(self) -> None:
        await apply_migrations(self)

    async def start(self) -> None:
        await self.migrate()

    async def stop(self) -> None:
        await self.close()

    async def close(self) -> None:
        """Keeps its documents: the next `start` finds them again, as with a database."""


class MemoryDocuments:
    """One collection. Copies go in and out, so a caller's later change is not a write."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.unique: set[tuple[str, ...]] = set()
        self._documents: dict[str, Document] = {}

    async def insert(self, document: Document) -> bool:
        await asyncio.sleep(0)
        _check(document)
        if document["_id"] in self._documents or self._taken(document):
            return False
        self._documents[document["_id"]] = copy.deepcopy(document)
        return True

    async def put(self, document: Document) -> None:
        await asyncio.sleep(0)
        _check(document)
        self._documents[document["_id"]] = copy.deepcopy(document)

    async def get(self, key: str) -> Document | None:
        await asyncio.sleep(0)
        return copy.deepcopy(self._documents.get(key))

    async def find(self, match: Match, *, order: str = "_id", limit: int = 0) -> list[Document]:
        await asyncio.sleep(0)
        check_match(match)
        field, descending = sort_key(order)
        found = [document for document in self._documents.values() if _matches(document, match)]
        found.sort(key=lambda document: (document.get(field) is not None, document.get(field)), reverse=descending)
        return copy.deepcopy(found[:limit] if limit else found)

    async def swap(self, key: str, expected: Match, changes: Document) -> bool:
        await asyncio.sleep(0)
        check_match(expected)
        current = self._documents.get(key)
        if current is None or not _matches(current, expected):
            return False
        changed = {**current, **copy.deepcopy(changes)}
        if self._taken(changed):
            return False
        self._documents[key] = changed
        return True

    async def delete(self, match: Match) -> int:
        await asyncio.sleep(0)
        check_match(match)
        gone = [key for key, document in self._documents.items() if _matches(document, match)]
        for key in gone:
            del self._documents[key]
        return len(gone)

    def _taken(self, document: Document) -> bool:
        return any(
            other["_id"] != document["_id"] and all(other.get(field) == document.get(field) for field in fields)
            for fields in self.unique
            for other in self._documents.values()
        )


def _check(document: Document) -> None:
    key = document.get("_id")
    if not isinstance(key, str) or not key:
        raise ValueError("a document needs a non-empty text `_id`")


_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "$lt": lambda value, wanted: value is not None and value < wanted,
    "$lte": lambda value, wanted: value is not None and value <= wanted,
    "$gt": lambda value, wanted: value is not None and value > wanted,
    "$gte": lambda value, wanted: value is not None and value >= wanted,
    "$ne": lambda value, wanted: value != wanted,
    "$in": lambda value, wanted: value in wanted,
}


def _matches(document: Document, match: Match) -> bool:
    for field, wanted in match.items():
        value = document.get(field)
        if isinstance(wanted, Mapping):
            if not all(_COMPARE[operator](value, operand) for operator, operand in wanted.items()):
                return False
        elif value != wanted:
            return False
    return True
