"""Records are found the same wherever a file is cut, whatever is in it, and never more than one is held."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lepton.contracts.files import records
from lepton.contracts.files.records import after_too_long, cut, without_bom
from lepton.contracts.files.rows import split

texts = st.text(st.sampled_from(["a", "b", '"', ",", "\n", "\r", " ", "é"]), max_size=8)


def in_pieces(kind: str, data: bytes, sizes: list[int]) -> list[bytes]:
    found: list[bytes] = []
    rest, at, turn = b"", 0, 0
    while at < len(data) or rest:
        size = sizes[turn % len(sizes)]
        block = data[at:at + size]
        at, turn = at + len(block), turn + 1
        piece = cut(kind, rest + block, last=at >= len(data))  # type: ignore[arg-type]
        found += piece.records
        rest = piece.rest
    return found


@given(st.lists(st.lists(texts, min_size=2, max_size=4), max_size=8), st.lists(st.integers(1, 9), min_size=1),
       st.booleans())
def test_what_a_csv_writer_writes_is_read_back_wherever_it_is_cut(rows: list[list[str]], sizes: list[int],
                                                                   quoted: bool) -> None:
    if not quoted:
        # The writer leaves these bare, where nobody could tell them from the end of a line.
        rows = [[value.replace("\r", "") for value in row] for row in rows]
    written = io.StringIO(newline="")
    csv.writer(written, lineterminator="\n", quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL).writerows(rows)
    found = in_pieces("csv", written.getvalue().encode(), sizes)
    assert [split(record) for record in found] == rows


@given(st.sampled_from(["csv", "jsonl"]), st.binary(max_size=300), st.lists(st.integers(1, 50), min_size=1))
def test_any_bytes_are_cut_the_same_in_one_piece_and_in_many(kind: str, data: bytes, sizes: list[int]) -> None:
    assert in_pieces(kind, data, sizes) == in_pieces(kind, data, [len(data) + 1])


def test_ends_say_where_each_record_stops_and_empty_lines_are_none() -> None:
    data = b'a,"x\ny"\r\n\n  \nb,c\nrest'
    piece = cut("csv", data)
    assert piece.records == [b'a,"x\ny"', b"b,c"]
    assert [data[:end] for end in piece.ends] == [b'a,"x\ny"\r\n\n  \n', b'a,"x\ny"\r\n\n  \nb,c\n']
    assert (piece.rest, piece.too_long) == (b"rest", False)
    assert cut("csv", data, last=True).records[-1] == b"rest"


@pytest.mark.parametrize(("line", "values"), [
    ('5" nail,2', ['5" nail', "2"]), ('"a""b",c', ['a"b', "c"]), ('"a" b,c', ["a b", "c"]), (",", ["", ""])])
def test_a_quote_inside_a_bare_value_is_part_of_it(line: str, values: list[str]) -> None:
    (record,) = cut("csv", line.encode() + b"\n").records
    assert split(record) == values


def test_a_record_that_is_too_long_is_told_and_its_end_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_RECORD_BYTES", 10)
    assert cut("jsonl", b"x" * 11).too_long
    assert cut("csv", b'"open,1\nab,2\ncd,3\n').records == [b'"open,1\nab,2', b"cd,3"]
    assert after_too_long(b"xxx\nnext") == 4
    assert after_too_long(b"xxx") is None


def test_a_mark_before_the_text_is_taken_off() -> None:
    assert without_bom(b"\xef\xbb\xbfid") == b"id"
