"""A database whose operations are counted, so that the watchdog knows who hangs on it."""

from typing import Any, Final, cast

from lepton.contracts.pb.telemetry_pb2 import CALL_WAY_DATABASE
from lepton.runtime.calls.sums import Calls
from lepton.store.documents import Document, DocumentDatabase, Documents, Match

DATABASE: Final = "database"


def counted(database: DocumentDatabase, calls: Calls) -> DocumentDatabase:
    """The same database; each operation on its collections is counted, and each that gets no answer."""
    return cast(DocumentDatabase, _Database(database, calls))


class _Database:
    def __init__(self, inner: DocumentDatabase, calls: Calls) -> None:
        self._inner = inner
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def collection(self, name: str) -> Documents:
        return _Documents(self._inner.collection(name), self._calls)


class _Documents:
    """One collection."""

    def __init__(self, inner: Documents, calls: Calls) -> None:
        self._inner = inner
        self._calls = calls

    @property
    def name(self) -> str:
        return self._inner.name

    async def insert(self, document: Document) -> bool:
        with self._calls.timed(CALL_WAY_DATABASE, DATABASE):
            return await self._inner.insert(document)

    async def put(self, document: Document) -> None:
        with self._calls.timed(CALL_WAY_DATABASE, DATABASE):
            await self._inner.put(document)

    async def get(self, key: str) -> Document | None:
        with self._calls.timed(CALL_WAY_DATABASE, DATABASE):
            return await self._inner.get(key)

    async def find(self, match: Match, *, order: str = "_id", limit: int = 0) -> list[Document]:
        with self._calls.timed(CALL_WAY_DATABASE, DATABASE):
            return await self._inner.find(match, order=order, limit=limit)

    async def swap(self, key: str, expected: Match, changes: Document) -> bool:
        with self._calls.timed(CALL_WAY_DATABASE, DATABASE):
            return await self._inner.swap(key, expected, changes)

    async def delete(self, match: Match) -> int:
        with self._calls.timed(CALL_WAY_DATABASE, DATABASE):
            return await self._inner.delete(match)
