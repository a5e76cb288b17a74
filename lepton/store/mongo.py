"""Documents in a database that speaks the MongoDB protocol; the only importer of its driver."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from motor.motor_asyncio import AsyncIOMotorClient
from pymongo.errors import ConfigurationError, DocumentTooLarge, DuplicateKeyError, OperationFailure, PyMongoError

from lepton.errors import Invalid, Unavailable
from lepton.store.documents import Document, Documents, Index, Match, apply_migrations, check_match, sort_key

# A wrong address or a stopped database is known within this time: long enough for a restart's hiccup to be
# retried by the caller, short enough for a person at `make up`.
SELECTION_TIMEOUT_MS = 2_000
# A frozen database answers nothing at all; an operation on it fails after this time.
SOCKET_TIMEOUT_MS = 5_000

_AUTHENTICATION_FAILED = 18
_INTERNAL_ERROR = 1
_MIGRATION_TRIES = 4
_REMEDY = "check that the database runs and that LEPTON_MONGO_URL names it"


class Database:
    """A connection pool. Opening it does no I/O; `start` does."""

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self._database = client[name]

    @classmethod
    def connect(cls, url: str, name: str) -> "Database":
        """Raises Invalid when `url` is no MongoDB URL; its text, which may hold a password, is never repeated."""
        try:
            client: Any = AsyncIOMotorClient(
                url, serverSelectionTimeoutMS=SELECTION_TIMEOUT_MS, connectTimeoutMS=SELECTION_TIMEOUT_MS,
                socketTimeoutMS=SOCKET_TIMEOUT_MS, waitQueueTimeoutMS=SOCKET_TIMEOUT_MS, appname="lepton", w="majority",
            )
        except (ConfigurationError, ValueError) as error:
            raise Invalid("the database URL is malformed", field="LEPTON_MONGO_URL",
                          remedy="use mongodb://[user:password@]host:port") from error
        return cls(client, name)

    def collection(self, name: str) -> Documents:
        return MongoDocuments(self._database, name)

    async def ensure(self, index: Index) -> None:
        keys = [(field, 1) for field in index.fields]
        with outcomes(f"creating an index on {index.collection}"):
            await self._database[index.collection].create_index(keys, unique=index.unique)

    @property
    def handle(self) -> Any:
        """The driver's own database, for `lepton.store.copies` alone."""
        return self._database

    async def ping(self) -> None:
        with outcomes("reaching the database"):
            await self._client.admin.command("ping")

    async def broken(self) -> str:
        """What it answers to a read where something in itself is broken; empty where it reads, or does not answer."""
        try:
            await self._database["migrations"].find_one({})
        except OperationFailure as error:
            return str(error).partition(",")[0] if error.code == _INTERNAL_ERROR else ""
        except PyMongoError:
            return ""
        return ""

    async def migrate(self) -> None:
        await apply_migrations(self)

    async def start(self) -> None:
        await self.ping()
        for tries_left in reversed(range(_MIGRATION_TRIES)):
            try:
                await self.migrate()
                return
            except Unavailable:
                # It answered the ping: on a busy machine, with every service starting, an index takes its time, and
                # asking for it again goes on where the last call was.
                if not tries_left:
                    raise

    async def stop(self) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection; what is under way fails with Unavailable."""
        self._client.close()

    async def drop(self) -> None:
        """Remove the whole database: for tests and `lepton down --purge`."""
        with outcomes("dropping the database"):
            await self._client.drop_database(self._database.name)


class MongoDocuments:
    """One collection."""

    def __init__(self, database: Any, name: str) -> None:
        self.name = name
        self._collection = database[name]

    async def insert(self, document: Document) -> bool:
        try:
            with outcomes(f"adding to {self.name}"):
                # The driver writes into what it is given.
                await self._collection.insert_one(dict(document))
        except DuplicateKeyError:
            return False
        return True

    async def put(self, document: Document) -> None:
        with outcomes(f"writing to {self.name}"):
            await self._collection.replace_one({"_id": document["_id"]}, document, upsert=True)

    async def get(self, key: str) -> Document | None:
        with outcomes(f"reading {self.name}"):
            found: Document | None = await self._collection.find_one({"_id": key})
            return found

    async def find(self, match: Match, *, order: str = "_id", limit: int = 0) -> list[Document]:
        check_match(match)
        field, descending = sort_key(order)
        with outcomes(f"reading {self.name}"):
            cursor = self._collection.find(_query(match)).sort([(field, -1 if descending else 1)]).limit(limit)
            found: list[Document] = await cursor.to_list(None)
            return found

    async def swap(self, key: str, expected: Match, changes: Document) -> bool:
        check_match(expected)
        try:
            with outcomes(f"changing {self.name}"):
                result = await self._collection.update_one({**_query(expected), "_id": key}, {"$set": changes})
        except DuplicateKeyError:
            return False
        return bool(result.matched_count)

    async def delete(self, match: Match) -> int:
        check_match(match)
        with outcomes(f"deleting from {self.name}"):
            result = await self._collection.delete_many(_query(match))
            return int(result.deleted_count)


def _query(match: Match) -> dict[str, Any]:
    return {field: dict(wanted) if isinstance(wanted, Mapping) else wanted for field, wanted in match.items()}


@contextmanager
def outcomes(doing: str) -> Iterator[None]:
    """The driver's errors as outcomes; a duplicate key passes through, for the caller to decide what it means."""
    try:
        yield
    except DuplicateKeyError:
        raise
    except DocumentTooLarge as error:
        raise Invalid(f"{doing}: the document is larger than the database allows") from error
    except OperationFailure as error:
        if error.code == _AUTHENTICATION_FAILED:
            raise Unavailable(f"{doing}: the database refuses the user or password", field="LEPTON_MONGO_URL",
                              remedy="check the user and password in LEPTON_MONGO_URL") from error
        raise Unavailable(f"{doing}: the database answered with error {error.code}", remedy=_REMEDY) from error
    except PyMongoError as error:
        raise Unavailable(f"{doing}: {type(error).__name__}", remedy=_REMEDY) from error
