"""The example of requests: no sentence stands on both sides, and wishes are understood as its page says."""

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from examples import alone
from examples.requests.compare import accuracy, answered, commonest, peer
from examples.requests.data import LEARNT_FROM, Request, requests
from lepton.errors import Invalid, Missing
from tests.unit.examples.taken import refusals


@pytest.fixture(scope="module")
def rows() -> list[Request]:
    return requests()


def application(folder: Path, **said: list[str]) -> Path:
    """A MindMeld application's sentences by intent."""
    for intent, lines in said.items():
        (folder / "shop" / intent).mkdir(parents=True)
        (folder / "shop" / intent / "train.txt").write_text("\n".join(lines) + "\n")
    return folder


def test_its_rows_are_taken_by_its_pipeline(rows: list[Request]) -> None:
    of = alone.spec("requests")
    assert len(rows) == 795
    assert of.model is not None
    assert of.model.train.first_rows == LEARNT_FROM
    assert of.events.label is not None
    assert set(of.events.label.categories or ()) == {one.wish for one in rows}
    assert refusals(of, [one.row() for one in rows]) == []


def test_no_sentence_stands_on_both_sides(rows: list[Request]) -> None:
    first, rest = ({re.sub(r"[\W_]+", " ", one.text.lower()).strip() for one in some}
                   for some in (rows[:LEARNT_FROM], rows[LEARNT_FROM:]))
    assert (len(first), len(rest)) == (560, 235)
    assert not first & rest
    assert Counter(one.wish for one in rows) == {
        "get_store_hours": 334, "find_nearest_store": 122, "greet": 120, "exit": 73, "get_store_number": 73, "help": 59,
        "transfer_money": 14}


def test_wishes_are_understood_as_well_as_by_scikit_learn(rows: list[Request]) -> None:
    first, rest = rows[:LEARNT_FROM], rows[LEARNT_FROM:]
    assert accuracy(commonest(first, rest), rest) == pytest.approx(0.379, abs=0.0005)
    beside = accuracy(peer(first, rest, seed=1), rest)
    assert beside > 0.93
    assert accuracy(answered(first, rest), rest) > beside - 0.04


def test_an_application_of_ones_own_is_read(tmp_path: Path) -> None:
    hours = ["When does {Elm Street|store} open?", "when does {5th|store} open", "", "Open?"]
    folder = application(tmp_path, hours=hours, pay=["Move {ten|sum} to {savings|account|dest}"])
    told = subprocess.run([sys.executable, "-m", "examples.requests.data", str(folder)], capture_output=True, text=True,
                          check=True).stdout
    found = {(row["text"], row["wish"]) for row in map(json.loads, told.splitlines())}
    assert found == {("When does Elm Street open?", "hours"), ("Open?", "hours"), ("Move ten to savings", "pay")}


def test_words_that_want_two_things_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="said to want greet and leave") as told:
        requests(application(tmp_path, greet=["Good day!"], leave=["Bye", "good day"]))
    assert "leave/train.txt, line 2" in str(told.value)


def test_a_brace_that_marks_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"hours/train\.txt, line 1"):
        requests(application(tmp_path, hours=["When does {Elm Street open?"]))


def test_a_folder_without_sentences_is_missing(tmp_path: Path) -> None:
    with pytest.raises(Missing, match="DOMAIN/INTENT"):
        requests(tmp_path)
