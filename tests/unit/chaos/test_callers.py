"""Callers that are a burden, and one who orders a training, before a server of the test's own."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from deploy.chaos.load.callers import burdened, ordered
from deploy.chaos.plan import Burden, Train
from lepton.errors import Unavailable
from tests.harness.wait import apoll_until
from tests.unit.chaos.asked import asking


class Gateway:
    """Answers as much of the gateway's routes as callers of this kind need, and counts."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.keys: set[str] = set()
        self.begun = 0
        self.states = ["RUNNING", "RUNNING", "FAILED"]

    async def respond(self, scope: Any, receive: Any, send: Any) -> None:
        path = f"{scope['method']} {scope['path']}"
        if path.startswith("POST /v1/models/shop/predict"):
            self.begun += 1
            # Read whole before it is answered, as the gateway does.
            while (await receive()).get("more_body"):
                pass
            self.keys.add(dict(scope["headers"])[b"authorization"].decode())
        self.asked[path] += 1
        status, body = 200, {}
        match path:
            case "POST /v1/keys":
                status, body = 201, {"key_id": "lk_1", "key": "lk_1.secret"}
            case "DELETE /v1/keys/lk_1":
                status = 204
            case "POST /v1/models/shop/train":
                status, body = 202, {"run_id": "run-1"}
            case "GET /v1/runs/run-1":
                body = {"state": self.states.pop(0) if len(self.states) > 1 else self.states[0]}
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"" if status == 204 else json.dumps(body).encode()})


@pytest.fixture
async def gateway() -> AsyncIterator[tuple[Gateway, httpx.AsyncClient]]:
    made = Gateway()
    async with asking(made.respond) as client:
        yield made, client


async def test_one_that_abuses_calls_without_end_with_a_key_that_is_revoked_after(gateway: Any) -> None:
    made, client = gateway
    predict = "POST /v1/models/shop/predict"
    async with burdened(Burden(name="a", do="abuse", clients=3), client, "shop"):
        await apoll_until(_so(lambda: made.asked[predict] > 20), "many calls", 30)
    assert made.keys == {"Bearer lk_1.secret"}
    assert made.asked["DELETE /v1/keys/lk_1"] == 1


async def test_slow_clients_hold_their_connections_and_are_answered_little(gateway: Any) -> None:
    made, client = gateway
    async with burdened(Burden(name="a", do="slow_clients", clients=5), client, "shop"):
        await apoll_until(_so(lambda: made.begun == 5), "all to have begun", 30)
        assert made.asked["POST /v1/models/shop/predict"] == 0


async def test_an_ordered_training_is_waited_for_until_it_ended(gateway: Any) -> None:
    _, client = gateway
    assert await ordered(Train(name="a", do="train", order={"parameters": {}}), client, "shop") == "FAILED"


async def test_a_training_that_does_not_end_is_told(gateway: Any) -> None:
    made, client = gateway
    made.states = ["RUNNING"]
    with pytest.raises(Unavailable, match="did not end"):
        await asyncio.wait_for(ordered(Train(name="a", do="train", for_s=0.1), client, "shop"), 30)


def _so(what: Any) -> Any:
    async def asked() -> bool:
        return bool(what())
    return asked
