"""Documents as the bytes they are in the database: read and written back without being understood."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from bson.codec_options import CodecOptions
from bson.errors import InvalidBSON
from bson.raw_bson import RawBSONDocument

from lepton.errors import Invalid
from lepton.store.documents import Match, check_match
from lepton.store.mongo import Database, outcomes

# So many documents wait in memory, or 16 MB of them.
_AT_ONCE = 200
_OPTIONS: Any = CodecOptions(document_class=RawBSONDocument)


class RawCollections:
    """A database's collections; every method raises Unavailable when the database cannot answer in bounded time."""

    def __init__(self, database: Database) -> None:
        self._database = database.handle

    async def names(self) -> list[str]:
        with outcomes("listing the collections"):
            found: list[str] = await self._database.list_collection_names()
        return sorted(name for name in found if not name.startswith("system."))

    async def read(self, name: str, match: Match | None = None) -> AsyncIterator[RawBSONDocument]:
        """Every document of a collection that matches, by id; it can be read like a mapping, and `raw` are its bytes.
        """
        check_match(match or {})
        cursor = self._database[name].with_options(codec_options=_OPTIONS).find(dict(match or {}))
        cursor = cursor.sort([("_id", 1)]).batch_size(_AT_ONCE)
        try:
            while True:
                with outcomes(f"reading {name}"):
                    found = await anext(cursor, None)
                if found is None:
                    return
                yield found
        finally:
            await cursor.close()

    async def write(self, name: str, documents: Sequence[RawBSONDocument]) -> None:
        """Add documents; raises Unavailable when one of them is there already."""
        if documents:
            with outcomes(f"adding to {name}"):
                await self._database[name].with_options(codec_options=_OPTIONS).insert_many(documents)

    async def announce_again(self) -> None:
        """Have every announced document announced once more: whoever knows its revision passes it over."""
        for name in await self.names():
            with outcomes(f"changing {name}"):
                await self._database[name].update_many({"pending": False}, {"$set": {"pending": True}})

    async def count(self, name: str) -> int:
        with outcomes(f"counting {name}"):
            return int(await self._database[name].count_documents({}))


def split(data: bytes) -> list[RawBSONDocument]:
    """The documents of bytes that are documents on end. Raises Invalid when they are not."""
    found, start = [], 0
    try:
        while start < len(data):
            size = int.from_bytes(data[start:start + 4], "little")
            found.append(RawBSONDocument(data[start:start + size]))
            start += max(size, 5)
    except InvalidBSON as error:
        raise Invalid("not documents of a database") from error
    return found

