"""Health says whether requests are answered, by whom, and what is wrong; as text, colours and a picture."""

import io
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from lepton_ai._models import plain, run_from, statistics_of
from lepton_ai._monitor.health import health_from
from lepton_ai._monitor.traffic import Traffic
from lepton_ai._progress import Quiet, Terminal

STATE: dict[str, Any] = {"model": "m", "champion": 2, "versions": [
    {"version": 2, "metrics": {"r2": 0.5}, "statistics": [{"field": "a"}]}]}


def instance(**changes: Any) -> dict[str, Any]:
    return {"instance": "predictor-0", "service": "predictor", "state": "READY", "silent": False, "models": {"m": 2},
            "load": 1.5, "provider": "CPUExecutionProvider", **changes}


def status(*instances: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"instances": list(instances), "lags": [], "incidents": [], "problems": [], **changes}


@pytest.mark.parametrize(("told", "champion", "state"), [
    (status(instance()), 2, "healthy"), (status(), 2, "down"), (status(instance(silent=True)), 2, "down"),
    (status(instance(models={})), 2, "down"), (status(instance(state="DRAINING")), 2, "down"),
    (status(instance(), instance(instance="predictor-1", silent=True)), 2, "degraded"),
    (status(instance()), 3, "degraded"), (status(instance(), problems=["no database"]), 2, "degraded"),
    (status(instance(), incidents=[{"symptom": "silence", "target": "instance:predictor-1", "state": "COMMANDED"}]), 2,
     "degraded"),
    (status(instance(), incidents=[{"symptom": "quality_loss", "target": "model:other", "state": "COMMANDED"}]), 2,
     "healthy"),
])
def test_the_state_is_what_a_caller_would_meet(told: dict[str, Any], champion: int, state: str) -> None:
    assert health_from("m", 2, {**STATE, "champion": champion}, told, []).state == state


def test_everything_known_is_told() -> None:
    lags = [{"group": group, "topic": "t", "records": records}
            for group, records in (("predictor.m", 7), ("predictor.m.g2", 5), ("ingest.m", 90))]
    incidents = [{"symptom": "quality_loss", "target": "model:m", "state": "COMMANDED"}]
    summaries = [{"accepted": 3, "rejected": 1}, {"accepted": 4}]
    text = str(health_from("m", 2, {**STATE, "champion": 1}, status(
        instance(), {"service": "ingest"}, lags=lags, incidents=incidents, problems=["lags"]), summaries))
    busy = replace(health_from("m", 2, STATE, status(instance()), []), traffic=Traffic(1, 2, 0.5, 0.25))
    assert "answered: 1 requests, 2 streamed rows; now 0.5 requests/s, 0.25 rows/s" in str(busy)
    for part in ("degraded", "champion: version 1", "predictor-0: ready, version 2, load 1.5, CPUExecutionProvider",
                 "r2 0.5", "accepted 7, rejected 1", "scored: 12", "quality_loss at model:m (commanded)",
                 "not known: lags"):
        assert part in text


def test_nobody_there_is_told() -> None:
    text = str(health_from("m", 2, {}, status(), []))
    assert "no predictor has announced itself" in text
    assert "champion: none" in text


def test_a_notebook_gets_a_well_formed_picture() -> None:
    told = status(instance(instance="<predictor>"))
    picture = ElementTree.fromstring(health_from("m", 2, STATE, told, [])._repr_svg_())
    texts = [one.text or "" for one in picture.iter() if one.tag.endswith("text")]
    assert any("<predictor>" in text for text in texts)


def test_a_terminal_gets_a_table() -> None:
    stream = io.StringIO()
    Console(file=stream, width=100).print(health_from("m", 2, STATE, status(instance()), []))
    assert "predictor-0" in stream.getvalue()
    assert stream.getvalue().count("predictor-0") == 1


def test_progress_rewrites_its_line_and_keeps_what_is_done() -> None:
    stream = io.StringIO()
    shown = Terminal(stream)
    shown.show("a long line")
    shown.show("short")
    shown.done("end")
    assert stream.getvalue() == "\ra long line\rshort      \rend  \n"
    Quiet().show("x")
    Quiet().done("x")


def test_answers_are_read_with_or_without_prefixes() -> None:
    assert plain("RUN_STATE_FAILED", "RUN_STATE_") == plain("FAILED", "RUN_STATE_") == "failed"
    run = run_from({"run_id": "r", "state": "RUNNING", "epoch": 2, "failure": None})
    assert (run.ended, run.epoch, run.version) == (False, 2, 0)
    assert statistics_of(STATE) == [{"field": "a"}]
    assert statistics_of({"champion": 0}) == []
