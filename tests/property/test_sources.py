"""However a table grows and a file is cut into reads, every row and every line is taken once."""

import asyncio
import sqlite3
import tempfile
from collections import Counter
from contextlib import closing
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from lepton.contracts.source_blocks import SqlSource
from services.ingest.core.pulling.files import Mark, lines_of
from services.ingest.core.pulling.rows import Row
from services.ingest.edge.sources.sql import SqlOrigin

# How much each new row's cursor grows: mostly not at all, so that values repeat; texts that differ in case are alike to
# a NOCASE column.
GROWTHS = st.lists(st.lists(st.sampled_from([0, 0, 0, 1, 2]), max_size=12), max_size=6)


@settings(max_examples=40)
@given(GROWTHS, st.integers(1, 5), st.booleans())
def test_rows_whose_cursor_repeats_are_taken_once_whenever_they_come(
        growths: list[list[int]], batch: int, textual: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found, wanted = asyncio.run(_grow(Path(folder) / "t.db", growths, batch, textual))
    assert found == wanted


async def _grow(path: Path, growths: list[list[int]], batch: int, textual: bool) -> tuple[Counter[str], Counter[str]]:
    """What is taken and what was written, by content; the connection is a new one after each growth."""
    at, count = 0, 0
    found: Counter[str] = Counter()
    wanted: Counter[str] = Counter()
    cursor: dict[str, object] = {}
    with closing(sqlite3.connect(path)) as table:
        table.execute(f"create table t (at {'text collate nocase' if textual else 'integer'}, what text)")
        for growth in growths:
            for step in growth:
                at, count = at + step, count + 1
                shown = (f"k{at:03d}" if count % 2 else f"K{at:03d}") if textual else at
                # Some rows are the same in every column.
                what = f"w-{count // 3}"
                table.execute("insert into t values (?, ?)", (shown, what))
                wanted[f"{shown} {what}"] += 1
            table.commit()
            source = SqlSource(name="t", url_from="LEPTON_SOURCE_T", table="t", cursor="at", batch_rows=batch)
            origin = SqlOrigin(source, f"sqlite:///{path}")
            await origin.open(cursor)
            more = True
            while more:
                read = await origin.read(cursor)
                cursor, more = read.cursor, read.more
                found.update(f"{item.values['at']} {item.values['what']}" for item in read.items
                             if isinstance(item, Row))
            await origin.close()
    return found, wanted


@given(st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"").rstrip(b"\r")), max_size=20),
       st.lists(st.integers(1, 30), min_size=1, max_size=30), st.integers(1, 4))
def test_lines_are_the_same_however_a_file_is_cut_into_reads(
        lines: list[bytes], cuts: list[int], at_most: int) -> None:
    text = b"".join(line + b"\n" for line in lines)
    mark, end, found = Mark("i", 1, 1, "f"), 0, []
    for cut in [*cuts, len(text)]:
        end = min(len(text), end + cut)
        while True:
            read, offset, skipping = lines_of(text[mark.offset:end], mark, at_most)
            found += [line for _, line in read]
            if offset == mark.offset:
                break
            mark = Mark("i", 1, 1, "f", offset=offset, skipping=skipping)
    assert found == [line for line in lines if line]
    assert mark.offset == len(text)
