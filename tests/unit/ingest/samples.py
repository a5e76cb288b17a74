"""A small pipeline and the records of its events, as the tests of ingest write them."""

import json
from typing import Any

from lepton.bus.records import Headers, Record
from lepton.contracts.pipeline import Pipeline, parse

TEXT = """\
apiVersion: lepton/v1
kind: Pipeline
metadata: {name: shop}
events:
  id: order
  entity: customer
  time: at
  partitions: 2
  fields:
    price: {type: float, range: [0, 1000], required: true}
    weight: {type: float}
    items: {type: int}
    member: {type: bool}
    country: {type: category, categories: [us, de]}
    note: {type: text}
  label: {field: bought, type: bool}
  dedupe_window: 1000
"""
AT = "2026-06-01T12:00:00Z"


def pipeline(*replacements: tuple[str, str], more: str = "") -> Pipeline:
    """The pipeline with parts of its text replaced and blocks added."""
    text = TEXT
    for old, new in replacements:
        assert old in text, old
        text = text.replace(old, new)
    return parse(text + more)


def order(number: int | str, **members: Any) -> dict[str, Any]:
    return {"order": f"o-{number}", "customer": f"c-{number}", "at": AT, "price": 1.0} | members


def record(value: Any, offset: int = 0, headers: Headers = (), partition: int = 0, topic: str = "lepton-events-shop",
           timestamp_ms: int = 1_780_000_000_000) -> Record:
    """`value`: bytes as they are, None for none, anything else as JSON."""
    body = value if isinstance(value, bytes) or value is None else json.dumps(value).encode()
    return Record(topic, partition, offset, None, body, headers, timestamp_ms)


def records(*values: Any, headers: Headers = ()) -> list[Record]:
    return [record(value, offset, headers) for offset, value in enumerate(values)]
