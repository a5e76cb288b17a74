"""Targets for what comes as files and from sources that are pulled: a row, or why it is none; never anything else."""

import io
from collections.abc import Iterator
from contextlib import suppress
from functools import cache

import pyarrow as pa
import pyarrow.parquet as pq

from lepton.contracts.files import parquet
from lepton.contracts.files.records import Format, cut
from lepton.contracts.files.rows import FileEvent, Rows, column_names
from lepton.contracts.pipeline import Pipeline, parse
from lepton.contracts.source_blocks import HttpSource
from lepton.errors import Invalid, Refused
from services.gateway.core.datasets.labels import Table, as_lines
from services.gateway.flow.intake.made import made_of_rows
from services.ingest.core.pulling import rows as pulled
from services.ingest.core.pulling.http import Paging
from services.ingest.core.pulling.texts import Lines
from services.ingest.core.pulling.texts import record as record_item

LINE = r"^(?P<at>\S+) (GET|POST) (?P<entity>\w+)(?: amount=(?P<amount>\S+))?"


@cache
def shop() -> Pipeline:
    return parse("""\
apiVersion: lepton/v1
kind: Pipeline
metadata: {name: fuzz}
events:
  {id: id, entity: entity, time: at, label: {field: bought, type: bool, arrives: later},
   fields: {amount: {type: float}, items: {type: int}, note: {type: text}, steps: {type: sequence, max_length: 4}}}
sources: {pull: [{name: feed, kind: http, url: "https://api.test/x"}]}
""")


def upload_text(data: bytes) -> None:
    """The rows of a file do not depend on where its pieces end."""
    kinds: tuple[Format, ...] = ("csv", "jsonl")
    for kind in kinds:
        whole = cut(kind, data, last=True).records
        half = cut(kind, data[:len(data) // 2])
        assert half.records + cut(kind, half.rest + data[len(data) // 2:], last=True).records == whole
        with suppress(Invalid):
            rows = Rows(shop(), "file")
            columns = rows.columns(column_names(whole.pop(0))) if kind == "csv" and whole else []
            for number, one in enumerate(whole, start=1):
                with suppress(Invalid):
                    event = rows.from_csv(one, columns, number) if kind == "csv" else rows.from_json(one, number)
                    assert isinstance(event, FileEvent) and event.event_id and event.key


def upload_parquet(data: bytes) -> None:
    with suppress(Invalid), parquet.opened(data) as file:
        names = dict.fromkeys(file.schema_arrow.names)
        members = {name: name for name in names}
        rows, first = Rows(shop(), "file"), 1
        for part in parquet.rows(file, 100):
            made, shown = made_of_rows(rows, members, part, first)
            assert len(made) == len(shown) == len(part) > 0
            first += len(part)


def label_table(data: bytes) -> None:
    kinds: tuple[Table, ...] = ("csv", "parquet", "arrow")
    for kind in kinds:
        with suppress(Invalid):
            as_lines(shop(), kind, data)


def log_lines(data: bytes) -> None:
    lines = [(f"m/{number}", line) for number, line in enumerate(data.split(b"\n"))]
    for pattern in (None, LINE):
        items = Lines(pattern).read(lines)
        assert [item.mark for item in items] == [mark for mark, _ in lines]
        _events(items)


def pulled_record(data: bytes) -> None:
    """Headers before the first empty line, `name: value` each; a body behind it."""
    head, _, body = data.partition(b"\n\n")
    headers = [(name.decode("utf-8", "replace"), value) for name, _, value in (
        line.partition(b": ") for line in head.split(b"\n"))]
    _events([record_item(body, headers, 1_780_000_000_000, "m/0"), record_item(data, (), 2**62, "m/1")])


def pulled_page(data: bytes) -> None:
    """A Link header on the first line, the answer behind it."""
    link, _, body = data.partition(b"\n")
    for form, following in (("none", None), ("page", None), ("offset", None), ("cursor", "next.0"), ("link", None)):
        source = HttpSource.model_validate({"name": "feed", "url": "https://api.test/x", "paging": form,
                                            "next": following})
        with suppress(Invalid, Refused):
            page = Paging(source).take({}, body, [link.decode("latin-1")])
            _events(page.items)
            Paging(source).ask(page.cursor)


def _events(items: list[pulled.Item]) -> None:
    rows = pulled.Rows(shop(), shop().sources.pull[0])
    for item in items:
        if isinstance(item, pulled.Row):
            with suppress(Invalid):
                assert rows.event(item).event_id


def parquet_seeds() -> Iterator[bytes]:
    table = pa.table({"id": ["a", "b"], "entity": ["e", "f"], "amount": [1.0, None], "items": [1, 2],
                      "at": pa.array([0, 2**62], pa.timestamp("us", "Mars/P")), "steps": [[1.0], []],
                      "note": pa.array(["x", "y"]).dictionary_encode(), "label": [True, False]})
    for compression in ("none", "zstd"):
        sink = io.BytesIO()
        pq.write_table(table, sink, compression=compression)
        yield sink.getvalue()


def text_seeds() -> Iterator[bytes]:
    yield b'\xef\xbb\xbfid,entity,amount,note\n1,e,1.5,"a ""b""\nc"\r\n2,f,1e999,\n3,,nan,"open\n'
    yield b"id,label,label_time\n1,true,2026-06-01\n2,no,\n"
    yield b'{"id": "1", "entity": 7, "at": 1e308, "steps": [[1]], "bought": true}\n{"entity": "\\ud800"}\n'
    yield b"2026-06-01T12:00:00Z GET e amount=" + b"9" * 5000 + b"\n\xff GET x\n0 POST e amount=Infinity\n"
    yield b'ce_id: 1\nce_time: 0001-01-01T00:00:00+23:59\ncontent-type: application/cloudevents+json\n\n{"a":1}'
    yield b'ce_id: \xff\nce_time: x\ncontent-type: application/json; charset=x\n\n{"entity":"e","amount":1e400}'
    yield b'<a?x=1>; rel="next", <b>;rel=x\n[{"id":1,"entity":"e"},2,null,{"next":["t"]}]'
    yield b'</x>;rel=next\n{"items":[{"entity":{"a":[{}]}}],"next":["\\u0000"]}'
    yield b"<http://[x>; rel=next\n[]"


FILE_TARGETS = (upload_text, upload_parquet, label_table, log_lines, pulled_record, pulled_page)
