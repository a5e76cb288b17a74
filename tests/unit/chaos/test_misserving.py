"""Versions that are a fault: the files, and how they become champion before a gateway of the test's own."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import onnxruntime as ort
import pytest
import yaml

from deploy.chaos.models import files
from deploy.chaos.models.corrupting import corrupted
from deploy.chaos.models.promoting import made as made_of
from deploy.chaos.models.promoting import promoted
from deploy.chaos.plan import Misserve
from lepton.errors import Invalid, Missing, Refused
from lepton.store.artifacts import Artifacts, Damaged
from lepton.store.memory import MemoryDatabase
from services.trainer.core.importing.opened import opened
from tests.unit.chaos.asked import asking

ROWS: list[dict[str, Any]] = [{"a": number % 10 / 10, "b": None if number % 7 == 0 else 1, "y": number % 10 > 4}
                              for number in range(200)]
SPEC: dict[str, Any] = {
    "metadata": {"name": "shop"},
    "events": {"fields": {"b": {"type": "int"}, "a": {"type": "float"}, "seen": {"type": "int", "input": False}}},
    "model": {"train": {"every_rows": 250}}, "gate": {"metric": "accuracy", "at_least": 0.7, "held_out": 0.2}}


def answers(file: bytes, rows: list[list[float]]) -> Any:
    assert opened(file)
    session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
    return session.run(["probabilities"], {"fields": np.array(rows, dtype=np.float32)})[0]


def test_the_line_is_right_or_says_the_opposite_or_has_a_hole() -> None:
    right, wrong = (files.line(ROWS, ["a", "b"], "y", wrong=wrong) for wrong in (False, True))
    low, high = [0.0, 1.0], [0.9, 1.0]
    assert [row.argmax() for row in answers(right, [low, high])] == [0, 1]
    assert [row.argmax() for row in answers(wrong, [low, high])] == [1, 0]
    holed = answers(files.line(ROWS, ["a", "b"], "y", hole=("a", 0.33)), [low, [0.33, 1.0], high])
    assert np.isnan(holed[1]).all()
    assert holed[[0, 2]].sum(axis=1) == pytest.approx([1, 1])


def test_a_slow_line_answers_as_a_fast_one_and_no_optimiser_leaves_its_work_out(tmp_path: Path) -> None:
    rows = [[0.0, 1.0], [0.9, 1.0]]
    slow = files.line(ROWS, ["a", "b"], "y", products=3)
    assert answers(slow, rows).tolist() == answers(files.line(ROWS, ["a", "b"], "y"), rows).tolist()
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    ort.InferenceSession(slow, options, providers=["CPUExecutionProvider"])
    kept = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    # Three useless ones beside the line's own.
    assert sum("MatMul" in one or "Gemm" in one for one in kept) == 4


@pytest.mark.parametrize(("rows", "field"), [
    ([{"a": 1, "y": "yes"}], "flow.label"), ([{"a": "x", "y": True}], "flow.rows")])
def test_rows_that_no_line_goes_through_are_refused(rows: list[dict[str, Any]], field: str) -> None:
    with pytest.raises(Invalid) as raised:
        files.line(rows, ["a"], "y")
    assert raised.value.field == field


class Gateway:
    """Takes Pipelines, an import and a promotion, and writes down in which order."""

    def __init__(self) -> None:
        self.did: list[str] = []
        self.applied: list[dict[str, Any]] = []
        self.ends = ["REJECTED", "SUCCEEDED"]
        self.refuses = False

    async def respond(self, scope: Any, receive: Any, send: Any) -> None:
        got = b""
        while (message := await receive()).get("more_body"):
            got += message["body"]
        got += message.get("body", b"")
        path, body = f"{scope['method']} {scope['path']}", b"{}"
        status = 200
        match path:
            case "GET /v1/pipelines/shop/export":
                body = yaml.safe_dump(SPEC, sort_keys=False).encode()
            case "POST /v1/pipelines":
                self.did.append("apply")
                self.applied.append(yaml.safe_load(got))
                status = 422 if self.refuses else 200
            case "POST /v1/models/shop/import":
                self.did.append(f"import {b'promote=true' in scope['query_string']}")
                body = b'{"run_id": "run-1"}'
            case "GET /v1/runs/run-1":
                body = json.dumps({"state": self.ends.pop(0)}).encode()
            case "GET /v1/models/shop":
                body = b'{"versions": [{"version": 2, "sha256": "old"}, {"version": 3, "sha256": "new"}]}'
            case "POST /v1/models/shop/promote":
                self.did.append(f"promote {json.loads(got)['version']}")
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": body})


@pytest.fixture
async def gateway() -> AsyncIterator[tuple[Gateway, httpx.AsyncClient]]:
    made = Gateway()
    async with asking(made.respond) as client:
        yield made, client


async def test_the_gate_is_open_only_for_the_import_and_all_is_as_before_afterwards(gateway: Any) -> None:
    made, client = gateway
    struck: list[str] = []

    async def corrupt(digest: str) -> None:
        struck.append(digest)

    async with promoted(Misserve(name="a", do="bad_model"), client, "shop", ROWS, "y", corrupt):
        # The first import came before the trainer knew that the gate is open, and was asked for again.
        assert made.did == ["apply", "import True", "import True", "apply"]
        opened_gate, during = made.applied
        assert opened_gate["gate"] == {"metric": "accuracy", "beat_champion_by": -1e9, "held_out": 0.2}
        assert during["gate"] == SPEC["gate"]
        assert [one["model"]["train"]["every_rows"] for one in made.applied] == [0, 0]
        assert list(during["events"]["fields"]) == ["b", "a", "seen"]
    assert made.applied[-1] == SPEC
    assert struck == []


def test_a_slow_model_is_made_as_the_plan_says() -> None:
    few, more = (made_of(Misserve(name="a", do="slow_model", products=count), ROWS, ["a", "b"], "y")
                 for count in (1, 4))
    counted = [sum(node.op_type == "MatMul" for node in onnx.load_from_string(one).graph.node) for one in (few, more)]
    assert counted == [2, 5]


async def test_corrupt_bytes_are_promoted_after_they_were_changed(gateway: Any) -> None:
    made, client = gateway
    made.ends = ["SUCCEEDED"]

    async def corrupt(digest: str) -> None:
        made.did.append(f"corrupt {digest}")

    async with promoted(Misserve(name="a", do="corrupt_model"), client, "shop", ROWS, "y", corrupt):
        assert made.did == ["apply", "import False", "apply", "corrupt new", "promote 3"]


async def test_a_door_that_refuses_is_told_and_a_field_must_be_one(gateway: Any) -> None:
    made, client = gateway
    made.refuses = True

    async def corrupt(_: str) -> None:
        raise AssertionError

    with pytest.raises(Refused):
        async with promoted(Misserve(name="a", do="bad_model"), client, "shop", ROWS, "y", corrupt):
            pass
    with pytest.raises(Invalid) as raised:
        async with promoted(Misserve(name="a", do="nan_model", field="c"), client, "shop", ROWS, "y", corrupt):
            pass
    assert raised.value.field == "a.field"


async def test_a_changed_artefact_is_not_what_its_digest_says() -> None:
    database = MemoryDatabase()
    artifacts = Artifacts(database)
    digest = await artifacts.put(b"a model")
    await corrupted(database, digest)
    with pytest.raises(Damaged):
        await artifacts.get(digest)
    with pytest.raises(Missing):
        await corrupted(database, "0" * 64)
