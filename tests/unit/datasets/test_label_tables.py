"""Corrections in tables of anyone: damaged ones and bombs are refused, and nothing of them is unpacked before."""

import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lepton.contracts.pipeline import parse
from lepton.errors import Invalid
from services.gateway.core.datasets.labels import Table, as_lines
from tests.fuzz.seeds import written

SHOP = parse("""\
apiVersion: lepton/v1
kind: Pipeline
metadata: {name: shop}
events:
  {id: order, entity: customer, fields: {price: {type: float}}, label: {field: bought, type: bool, arrives: later}}
""")


def parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def lines(kind: Table, data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in as_lines(SHOP, kind, data).split(b"\n")]


def test_the_same_labels_come_from_every_form() -> None:
    table = pa.table({"order": ["e-1", "e-2"], "label": [True, None], "customer": ["c", "d"], "other": [1, 2]})
    expected = [{"event_id": "e-1", "label": True, "entity": "c"}, {"event_id": "e-2", "entity": "d"}]
    coded = table.set_column(0, "order", table["order"].dictionary_encode())
    views = table.set_column(0, "order", table["order"].cast(pa.string_view()))
    assert [lines("arrow", written(one, "zstd")) for one in (table, coded, views)] == [expected] * 3
    assert [lines("parquet", parquet(one)) for one in (table, coded)] == [expected] * 2
    for csv in (b'\xef\xbb\xbforder,label,customer,other\ne-1,yes,c,1\n"e-2",,d,x',
                b"\r\nother,order,customer,label\r\n1,e-1,c,t\r\n2,e-2,d,"):
        assert lines("csv", csv) == expected


def test_damaged_offsets_of_a_stream_are_refused_and_not_followed() -> None:
    """Unchecked, they are addresses: the process that reads the texts ends by a segmentation fault."""
    good = written(pa.table({"order": ["e-1", "e-2"], "label": [True, False]}), None)
    offsets = b"".join(place.to_bytes(4, "little") for place in (0, 3, 6))
    assert good.count(offsets) == 1
    for far in (2**31 - 1, 2**30, -1):
        with pytest.raises(Invalid, match="not an Arrow stream"):
            lines("arrow", good.replace(offsets, offsets[:4] + far.to_bytes(4, "little", signed=True) + offsets[8:]))


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_a_table_that_unpacks_to_far_more_than_it_is_is_refused(kind: Table) -> None:
    form = parquet if kind == "parquet" else lambda table: written(table, "zstd")
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 2000, pa.int32()), pa.array(["x" * 100_000]))
    for data in (form(pa.table({"order": texts, "label": [True] * 2000})),
                 parquet(pa.table({"order": ["e-1"] * 300_000, "label": [True] * 300_000})) if kind == "parquet" else
                 written(pa.table({"order": pa.nulls(100_000), "label": pa.nulls(100_000)}), None)):
        assert len(data) < 60_000
        with pytest.raises(Invalid, match="the most that is read of so many"):
            lines(kind, data)


def test_a_row_that_cannot_be_told_is_said_by_its_number() -> None:
    at = pa.array([0, 2**62], pa.timestamp("us"))
    table = pa.table({"order": ["a", "b"], "label": [True, False], "label_time": at})
    bodies: dict[Table, bytes] = {"parquet": parquet(table), "arrow": written(table, None)}
    for kind, data in bodies.items():
        with pytest.raises(Invalid, match="out_of_range") as caught:
            lines(kind, data)
        assert (caught.value.field, caught.value.place) == ("label_time", "row 2")
    with pytest.raises(Invalid, match="'perhaps' is no bool") as caught:
        lines("csv", b"order,label\n" + b"e,true\n" * 20_000 + b"e,perhaps\n")
    assert caught.value.place == "row 20001"


@pytest.mark.parametrize(("kind", "data", "why"), [
    ("csv", b"order,label" + b",x" * 2000 + b"\n", "more than 1000 columns"),
    ("csv", b"", "no column event_id or order"),
    ("csv", b"order,label\n\xff,true\n", "not a csv table"), ("csv", b"order,label\n1\n", "not a csv table"),
    ("parquet", b"PAR1", "cannot be read as Parquet"), ("arrow", b"ARROW1", "not an Arrow stream")])
def test_what_is_no_such_table_is_said_so(kind: Table, data: bytes, why: str) -> None:
    with pytest.raises(Invalid, match=why):
        lines(kind, data)
