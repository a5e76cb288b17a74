"""Tables and queries over SQLAlchemy: what is read beyond a cursor, in a thread, with the types its columns have."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy
from sqlalchemy import ColumnClause, ColumnElement, Engine, FromClause, Select, and_, or_
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, NoSuchTableError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from lepton.contracts.source_blocks import SqlSource
from lepton.errors import Invalid, LeptonError, Missing, Unavailable
from services.ingest.edge.sources.thread import OwnThread
from services.ingest.flow.pulling.origin import Cursor, Item, Pulled, SqlPlace

MAX_BATCH_BYTES = 8 << 20

Rows = list[Mapping[str, Any]]


class SqlOrigin:
    """A `services.ingest.flow.pulling.origin.Origin`. The URL is never in what it says."""

    unit = "rows"

    def __init__(self, source: SqlSource, url: str) -> None:
        self._source = source
        self._url = url
        self._thread = OwnThread(f"sql {source.name}")
        self._engine: Engine | None = None
        self._from: FromClause | None = None

    async def open(self, cursor: Cursor) -> None:
        await self._thread.call(lambda: self._said(self._connect), self._source.timeout)

    async def read(self, cursor: Cursor) -> Pulled:
        return await self._thread.call(lambda: self._said(lambda: self._read(cursor)), self._source.timeout)

    async def close(self) -> None:
        engine, self._engine, self._from = self._engine, None, None
        if engine is not None:
            try:
                await self._thread.call(engine.dispose, 2.0)
            except (LeptonError, SQLAlchemyError, OSError):
                return
        self._thread.leave()

    # -- in the thread ------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        self._engine = sqlalchemy.create_engine(self._url, poolclass=QueuePool, pool_size=1, max_overflow=0,
                                                pool_pre_ping=True)
        source = self._source
        if source.query is not None:
            known: list[ColumnClause[Any]] = [sqlalchemy.column(name) for name in (source.cursor, source.tie) if name]
            self._from = sqlalchemy.text(source.query).columns(*known).subquery("pulled")
            return
        schema, _, name = (source.table or "").rpartition(".")
        try:
            table = sqlalchemy.Table(name, sqlalchemy.MetaData(), schema=schema or None, autoload_with=self._engine)
        except NoSuchTableError as error:
            raise Missing(f"there is no table {source.table}", field="table") from error
        for column in (source.cursor, source.tie):
            if column is not None and column not in table.c:
                raise Missing(f"the table {source.table} has no column {column}", field="cursor")
        self._from = table

    def _read(self, cursor: Cursor) -> Pulled:
        source, place = self._source, SqlPlace(cursor)
        engine, origin = self._engine, self._from
        if engine is None or origin is None:
            raise Unavailable("the database is not connected")
        items: list[Item] = []
        limit = source.batch_rows
        with engine.connect() as connection:
            beyond = _fetch(connection, self._beyond(origin, place), limit)
            full = False
            if place.at is not None and source.tie is None:
                # Rows that came later with the value where the last batch ended. They are asked for last: each query
                # sees what was committed until then, and what is beyond must not be newer than these.
                same = _fetch(connection, self._select(origin, origin.c[source.cursor] == place.at),
                              limit + place.seen.total())
                items += place.same(same.rows)
                full = same.more or len(items) >= limit
        if not full:
            full = beyond.more
            items += (place.beyond(beyond.rows, source.cursor) if source.tie is None
                      else place.tied(beyond.rows, source.cursor, source.tie))
        return Pulled(items, place.to_cursor(), place.shown, more=full, lag=None if full else 0)

    def _beyond(self, origin: FromClause, place: SqlPlace) -> Select[Any]:
        column = origin.c[self._source.cursor]
        if place.at is None:
            return self._select(origin, column.is_not(None))
        if self._source.tie is None:
            return self._select(origin, column > place.at)
        tie = origin.c[self._source.tie]
        return self._select(origin, or_(column > place.at, and_(column == place.at, tie > place.tie)))

    def _select(self, origin: FromClause, where: ColumnElement[bool]) -> Select[Any]:
        # A query's columns are not known beforehand: all of them are meant.
        chosen: Any = origin if self._source.query is None else sqlalchemy.text("*")
        order = [origin.c[name] for name in (self._source.cursor, self._source.tie) if name is not None]
        return sqlalchemy.select(chosen).select_from(origin).where(where).order_by(*order)

    def _said(self, work: Any) -> Any:
        """What `work` returns; the errors of databases as outcomes, without the URL, statement or parameters."""
        try:
            return work()
        except LeptonError:
            raise
        except (ArgumentError, NoSuchModuleError, ImportError) as error:
            raise Invalid(f"the URL cannot be used ({type(error).__name__})", field=self._source.url_from,
                          remedy="use dialect+driver://user:password@host/database, its driver installed") from error
        except SQLAlchemyError as error:
            cause = getattr(error, "orig", None)
            text = str(cause).splitlines()[0][:300] if cause is not None and str(cause) else type(error).__name__
            raise Unavailable(f"the database says: {self._without_secret(text)}", place=self._source.name) from error
        except (OSError, ValueError, TypeError, ArithmeticError, KeyError) as error:
            raise Invalid(f"a row cannot be read: {self._without_secret(str(error))[:300]}",
                          place=self._source.name) from error

    def _without_secret(self, text: str) -> str:
        password = sqlalchemy.make_url(self._url).password
        return text.replace(str(password), "***") if password else text


class _Fetched:
    def __init__(self, rows: Rows, more: bool) -> None:
        self.rows = rows
        self.more = more


def _fetch(connection: sqlalchemy.Connection, query: Select[Any], limit: int) -> _Fetched:
    """At most `limit` rows and not many more bytes than MAX_BATCH_BYTES; `more`: it was cut short."""
    rows: Rows = []
    size = 0
    result = connection.execution_options(stream_results=True, yield_per=500).execute(query.limit(limit))
    for row in result.mappings():
        rows.append(dict(row))
        size += _size(row.values())
        if size > MAX_BATCH_BYTES:
            result.close()
            return _Fetched(rows, more=True)
    return _Fetched(rows, more=len(rows) == limit)


def _size(values: Any) -> int:
    return sum(len(value) if isinstance(value, str | bytes) else 16 for value in values)


