"""Records of API keys; a record holds a hash, so reading the database gives nobody a key."""

from collections.abc import Mapping
from typing import Any

from lepton.errors import Missing, Refused
from lepton.store.documents import Document, DocumentDatabase

# The record of the key made at first start sits under this id in a collection of one, so only one process makes it.
_FIRST = "first"

KeyRecord = dict[str, Any]


class Keys:
    """Written by the gateway only; read by the predictor."""

    def __init__(self, database: DocumentDatabase) -> None:
        self._documents = database.collection("keys")
        self._first = database.collection("first_key")

    async def create(self, record: Mapping[str, Any]) -> None:
        """Add a record, whose `key_id` names it. Raises Refused when that id is taken."""
        if not await self._documents.insert({**record, "_id": record["key_id"]}):
            raise Refused(f"key {record['key_id']} exists already", field="key_id")

    async def create_first(self, record: Mapping[str, Any]) -> bool:
        """Add the record if no process ever added a first one. True for exactly one of all who try.

        Called again with the winner's own record (it was killed in between), it completes the addition: True.
        """
        key_id = str(record["key_id"])
        if not await self._first.insert({"_id": _FIRST, "key_id": key_id}):
            winner = await self._first.get(_FIRST)
            if winner is None or winner["key_id"] != key_id:
                return False
        await self._documents.insert({**record, "_id": key_id})
        return True

    async def get(self, key_id: str) -> KeyRecord:
        """Raises Missing for an unknown id. A revoked key is returned, with `revoked` true."""
        document = await self._documents.get(key_id)
        if document is None:
            raise Missing(f"there is no key {key_id}")
        return _record(document)

    async def list(self) -> list[KeyRecord]:
        return [_record(document) for document in await self._documents.find({})]

    async def revoke(self, key_id: str) -> None:
        """Mark it revoked, for good; again is harmless. Raises Missing for an unknown id."""
        if not await self._documents.swap(key_id, {}, {"revoked": True}):
            raise Missing(f"there is no key {key_id}")

    async def any(self) -> bool:
        """Whether a key that is not revoked exists."""
        return bool(await self._documents.find({"revoked": {"$ne": True}}, limit=1))


def _record(document: Document) -> KeyRecord:
    return {field: value for field, value in document.items() if field != "_id"}
