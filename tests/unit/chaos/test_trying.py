"""A worse version that is tried beside the champion, before a gateway of the test's own."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import yaml

from deploy.chaos.models import trying
from deploy.chaos.models.trying import tried
from deploy.chaos.plan import Canary
from lepton.errors import Unavailable
from tests.unit.chaos.asked import asking

ROWS: list[dict[str, Any]] = [{"a": number % 10 / 10, "y": number % 10 > 4} for number in range(50)]
SPEC: dict[str, Any] = {"metadata": {"name": "shop"}, "events": {"fields": {"a": {"type": "float"}}},
                        "model": {"train": {"every_rows": 250}}, "gate": {"metric": "accuracy"},
                        "serve": {"batching": {"max_rows": 8}}}


class Gateway:
    """A rollout of version 3 is told in these states, and predictions are of these versions, the last one for good."""

    def __init__(self) -> None:
        self.spec = SPEC
        self.applied: list[dict[str, Any]] = []
        self.tells = [(2, "REVERTED"), (3, "RUNNING"), (3, "REVERTED")]
        self.answers = [3, 1]
        self.notes: list[str] = []

    async def respond(self, scope: Any, receive: Any, send: Any) -> None:
        got = b""
        while (message := await receive()).get("more_body"):
            got += message["body"]
        got += message.get("body", b"")
        body: Any = {}
        match f"{scope['method']} {scope['path']}":
            case "GET /v1/pipelines/shop/export":
                body = self.spec
            case "POST /v1/pipelines":
                self.applied.append(yaml.safe_load(got))
            case "POST /v1/models/shop/import":
                body = {"run_id": "run-1"}
            case "GET /v1/runs/run-1":
                body = {"state": "SUCCEEDED"}
            case "GET /v1/models/shop":
                body = {"champion": 1, "versions": [{"version": 1}, {"version": 2}]}
            case "GET /v1/models/shop/rollout":
                candidate, state = self.tells.pop(0) if len(self.tells) > 1 else self.tells[0]
                body = {"candidate": candidate, "state": state}
            case "POST /v1/models/shop/rollout/abort":
                self.notes.append(json.loads(got)["note"])
            case "POST /v1/models/shop/predict":
                assert json.loads(got)["rows"] == [{"a": 0.0}]
                body = {"version": self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]}
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(body).encode()})


@pytest.fixture
async def gateway(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Gateway, httpx.AsyncClient]]:
    monkeypatch.setattr(trying, "_ASKED", 2)
    made = Gateway()
    async with asking(made.respond) as client:
        yield made, client


async def test_its_own_rollout_is_waited_for_and_the_pipeline_is_as_before(gateway: Any) -> None:
    made, client = gateway
    assert await tried(Canary(name="a", do="worse_canary", share=0.3), client, "shop", ROWS, "y") == "REVERTED"
    assert made.answers == [1]
    opened, during, after = made.applied
    for one in (opened, during):
        assert one["serve"] == {"batching": {"max_rows": 8}, "rollout": "canary",
                                "trial": {"shares": [0.3], "step_s": 120.0, "limit_s": 240.0}}
    assert (during["gate"], after) == (SPEC["gate"], SPEC)
    assert made.notes == []


async def test_a_canary_of_the_pipeline_s_own_stays_as_it_is(gateway: Any) -> None:
    made, client = gateway
    serve = {"rollout": "canary", "trial": {"shares": [0.1, 0.2]}}
    made.spec = {**SPEC, "serve": serve}
    await tried(Canary(name="a", do="worse_canary"), client, "shop", ROWS, "y")
    assert made.applied[0]["serve"] == serve


async def test_one_that_does_not_end_is_ended_and_one_that_answers_on_is_told(
        gateway: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made, client = gateway
    monkeypatch.setattr(trying, "_ALONE_S", 2)
    made.tells, made.answers = [(3, "RUNNING")], [3]
    assert await tried(Canary(name="a", do="worse_canary", for_s=2), client, "shop", ROWS, "y") == (
        "RUNNING, and version 3 answers instead of 1")
    assert made.notes == ["chaos: a"]
    assert made.applied[-1] == SPEC


async def test_where_no_rollout_begins_that_is_said(gateway: Any) -> None:
    made, client = gateway
    made.tells = [(2, "REVERTED")]
    with pytest.raises(Unavailable, match="no rollout began"):
        await tried(Canary(name="a", do="worse_canary", for_s=0.3), client, "shop", ROWS, "y")
    assert made.applied[-1] == SPEC
