"""A pipeline that pulls, and what a test sees of it: its events on the log, and how its sources stand."""

import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from lepton.contracts.pipeline import Pipeline, parse
from lepton.contracts.topics import Topic
from lepton.store.documents import Document
from lepton.store.pipelines import SourceBoard
from tests.unit.ingest.house import House, until

TEXT = """\
apiVersion: lepton/v1
kind: Pipeline
metadata: {{name: {name}}}
events:
  id: order
  entity: customer
  time: at
  partitions: 2
  fields:
    price: {{type: float}}
    items: {{type: int}}
    member: {{type: bool}}
    note: {{type: text}}
  dedupe_window: 100000
sources:
  pull:
{sources}
"""
VARIABLE = "LEPTON_SOURCE_SHOP"


def pulling(*sources: dict[str, Any], name: str = "shop") -> Pipeline:
    """JSON is YAML, so a source may be given as it comes."""
    lines = [f"    - {json.dumps({'every': 0.05} | source)}" for source in sources]
    return parse(TEXT.format(name=name, sources="\n".join(lines)))


def sql(**changes: Any) -> dict[str, Any]:
    return {"name": "orders", "kind": "sql", "url_from": VARIABLE, "table": "orders", "cursor": "id"} | changes


class Table:
    """A SQLite file with a growing table of orders."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run("create table if not exists orders (id integer, customer text, at datetime, price numeric, note text)")

    @property
    def url(self) -> str:
        return f"sqlite:///{self.path}"

    def run(self, statement: str, rows: Iterable[tuple[Any, ...]] = ((),)) -> None:
        with closing(sqlite3.connect(self.path, timeout=30)) as connection:
            connection.executemany(statement, rows)
            connection.commit()

    def add(self, *numbers: int, customer: str | None = "c") -> None:
        self.run("insert into orders values (?, ?, '2026-06-01 12:00:00.000000', 1.5, ?)",
                 [(number, customer, f"n-{number}") for number in numbers])


async def events(house: House) -> list[dict[str, Any]]:
    """Values of the events topic with what their headers say."""
    return [{**json.loads(record.value or b"{}"),
             "_key": (record.key or b"").decode(),
             **{name: value.decode() for name, value in record.headers if name.startswith("ce_")}}
            for record in await house.read(Topic.EVENTS)]


async def pulled(house: House, count: int) -> list[dict[str, Any]]:
    async def enough() -> list[dict[str, Any]]:
        found = await events(house)
        return found if len(found) >= count else []

    found: list[dict[str, Any]] = await until(enough, f"{count} pulled events", 60)
    return found


async def standing(house: House, name: str, generation: int = 1, **wanted: Any) -> Document:
    """How a source stands once it stands as wanted."""
    seen: Document = {}

    async def there() -> Document | None:
        seen.update((await SourceBoard(house.database).of(house.name, generation)).get(name, {}))
        return seen if seen and all(seen[key] == value for key, value in wanted.items()) else None

    try:
        found: Document = await until(there, f"source {name} with {wanted}", 60)
    except AssertionError as error:
        raise AssertionError(f"{error}; it stands at {seen}") from error
    return found
