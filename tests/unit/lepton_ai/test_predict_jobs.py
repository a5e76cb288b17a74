"""Whole files through `lepton predict`: every row once, also after a kill; refused rows in their place; all formats."""

import csv
import io
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lepton.errors import Invalid, LeptonError, Refused
from lepton_ai._jobs.jobs import PART_ROWS, ROWS_PER_CALL
from tests.harness.wait import poll_until
from tests.unit.lepton_ai.doors import Desk
from tests.unit.lepton_ai.test_cli import Lepton, desk, lepton, process, where  # noqa: F401 - fixtures of here too

COUNT = PART_ROWS + 10


@pytest.fixture(autouse=True)
def served(desk: Desk) -> Iterator[None]:  # noqa: F811 - the fixture
    desk.models["shop"] = {"model": "shop", "champion": 3, "versions": []}
    desk.inputs = {"amount": "FP64", "item_no": "INT64", "known": "BOOL", "colour": "BYTES"}
    yield
    desk.go_on.set()


def write_csv(path: Path, count: int = 4) -> None:
    lines = [f"o-{row},{row}.5,{row},true,red,x" for row in range(count)]
    path.write_text("\n".join(["order_id,amount,Item No,known,colour,note", *lines]) + "\n", "utf-8")


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_a_csv_file_is_read_by_the_models_types_and_answered_beside_kept_columns(
        lepton: Lepton, desk: Desk, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "in.csv").write_text("order_id,amount,Item No,known,colour,note\n"
                                     "o-1,1.5,2,true,NA,x\no-2,,NA,0,,\no-3,much,2.5,1,red,\n", "utf-8")
    said = lepton("predict", "shop", "--in", "in.csv", "--out", "out.csv", "--keep", "order_id").stdout
    assert "3 rows by version 3 of shop" in said
    assert "not fields of the model: note" in said
    assert desk.predicted == [
        {"amount": 1.5, "item_no": 2, "known": True, "colour": "NA"},
        {"amount": None, "item_no": None, "known": False, "colour": None},
        # What is no number goes as it is: the predictor says what is wrong with it.
        {"amount": "much", "item_no": 2.5, "known": True, "colour": "red"}]
    found = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text("utf-8"))))
    assert [(one["row"], one["order_id"], one["version"], one["number"]) for one in found] == [
        ("1", "o-1", "3", "4.0"), ("2", "o-2", "3", "4.0"), ("3", "o-3", "3", "4.0")]
    assert not (tmp_path / "out.csv.parts").exists()


def test_rows_that_are_refused_stand_in_their_place_with_the_reason(
        lepton: Lepton, desk: Desk, tmp_path: Path) -> None:  # noqa: F811
    desk.inputs["wrong"] = "FP64"
    (tmp_path / "in.jsonl").write_text('{"amount": 1.0}\n{"wrong": 1.0}\n{"amount": \n[1]\n{"amount": 2.0}\n', "utf-8")
    said = lepton("predict", "shop", "--in", "in.jsonl", "--out", "out.jsonl").stdout
    assert "5 rows by version 3 of shop, 3 without an answer" in said
    found = lines_of(tmp_path / "out.jsonl")
    assert [one["row"] for one in found] == [1, 2, 3, 4, 5]
    assert ["error" in one for one in found] == [False, True, True, True, False]
    assert found[1]["error"]["remedy"] == "leave it out"
    assert "not JSON" in found[2]["error"]["message"]
    assert "not a JSON object" in found[3]["error"]["message"]


def test_parquet_goes_in_and_out(lepton: Lepton, desk: Desk, tmp_path: Path) -> None:  # noqa: F811
    pq.write_table(pa.table({"amount": [1.0, None], "colour": ["red", "blue"], "id": [7, 8]}), tmp_path / "in.parquet")
    lepton("predict", "shop", "--in", "in.parquet", "--out", "out.parquet", "--keep", "id")
    found = pq.read_table(tmp_path / "out.parquet")
    assert found.column("number").to_pylist() == [2.0, 2.0]
    assert found.column("id").to_pylist() == ["7", "8"]
    assert found.column("error").null_count == 2
    assert desk.predicted[1] == {"amount": None, "colour": "blue"}


def test_the_rows_of_a_data_set_are_answered_with_their_event_and_entity(
        lepton: Lepton, desk: Desk, tmp_path: Path) -> None:  # noqa: F811
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"_event_id": ["e-1"], "_entity": ["ann"], "amount": [1.0]}), sink)
    desk.stored = sink.getvalue().to_pybytes()
    lepton("predict", "shop", "--dataset", "shop", "--out", "out.jsonl")
    (one,) = lines_of(tmp_path / "out.jsonl")
    assert (one["row"], one["_event_id"], one["_entity"], one["number"]) == (1, "e-1", "ann", 1.0)


def test_a_job_that_is_killed_goes_on_and_answers_every_row_once(
        desk: Desk, where: list[str], lepton: Lepton, tmp_path: Path) -> None:  # noqa: F811
    write_csv(tmp_path / "in.csv", COUNT)
    command = ("predict", "shop", "--in", str(tmp_path / "in.csv"), "--out", str(tmp_path / "out.jsonl"),
               "--keep", "order_id")
    desk.hold_at = COUNT
    run = process(*where, *command)
    poll_until(lambda: len(desk.predicted) >= COUNT, "the last part to be asked for", 60)
    run.send_signal(signal.SIGKILL)
    run.communicate(timeout=30)
    assert not (tmp_path / "out.jsonl").exists()
    assert (tmp_path / "out.jsonl.parts" / "00000000.jsonl").exists()
    desk.go_on.set()
    desk.models["shop"]["champion"] = 4
    said = lepton(*command).stdout
    # The version that began answers to the end, and only the part that was in hand is asked for again.
    assert f"{COUNT:,} rows by version 3" in said
    assert len(desk.predicted) == COUNT + COUNT - PART_ROWS
    found = lines_of(tmp_path / "out.jsonl")
    assert [(one["row"], one["order_id"]) for one in found] == [(row + 1, f"o-{row}") for row in range(COUNT)]


def test_calls_are_small_enough_for_the_door(lepton: Lepton, desk: Desk, tmp_path: Path) -> None:  # noqa: F811
    write_csv(tmp_path / "in.csv", ROWS_PER_CALL + 1)
    lepton("predict", "shop", "--in", "in.csv", "--out", "out.jsonl")
    assert desk.asked["POST /v1/models/shop/predict"] == 2
    assert len(lines_of(tmp_path / "out.jsonl")) == ROWS_PER_CALL + 1


def test_another_input_is_not_taken_for_the_one_that_was_begun(
        lepton: Lepton, desk: Desk, tmp_path: Path) -> None:  # noqa: F811
    write_csv(tmp_path / "in.csv")
    desk.fail = [(200, {}, {"champion": 3}), (418, {}, {"detail": "gone for tea"})]
    with pytest.raises(LeptonError, match="gone for tea"):
        lepton("predict", "shop", "--in", "in.csv", "--out", "out.csv")
    write_csv(tmp_path / "in.csv", 5)
    with pytest.raises(Refused, match="its input has changed"):
        lepton("predict", "shop", "--in", "in.csv", "--out", "out.csv")
    assert "5 rows" in lepton("predict", "shop", "--in", "in.csv", "--out", "out.csv", "--restart").stdout
    with pytest.raises(Refused, match="the file is there already"):
        lepton("predict", "shop", "--in", "in.csv", "--out", "out.csv")


@pytest.mark.parametrize(("arguments", "why"), [
    (["--in", "in.csv"], "needs --out"), (["--in", "in.csv", "--dataset", "shop", "--out", "o.csv"], "needs --out"),
    (["--in", "in.csv", "--out", "out.txt"], "no format answers are written in"),
    (["--in", "in.csv", "--out", "o.csv", "--keep", "absent"], "no column 'absent'"),
    (["--in", "other.csv", "--out", "o.csv"], "no column is a field of the model"),
    (["--in", "none.csv", "--out", "o.csv"], "there are no rows")])
def test_what_cannot_be_a_job_is_refused(arguments: list[str], why: str, lepton: Lepton,  # noqa: F811
                                         tmp_path: Path) -> None:
    write_csv(tmp_path / "in.csv")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n", "utf-8")
    (tmp_path / "none.csv").write_text("amount\n", "utf-8")
    with pytest.raises(Invalid, match=why):
        lepton("predict", "shop", *arguments)
