"""Clients of other projects, unmodified, against a gateway and a predictor on real sockets."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from lepton.contracts.apikeys import Scope
from tests.harness import clients
from tests.harness.doors import DOORS
from tests.harness.onnx_echo import Echo
from tests.harness.onnx_models import OneTensor
from tests.harness.wait import apoll_until
from tests.unit.gateway.house import open_house
from tests.unit.predictor.world import world

pytestmark = [pytest.mark.process, pytest.mark.asyncio(loop_scope="module")]

SCRIPTS = Path(__file__).parent / "scripts"


@dataclass(frozen=True)
class Doors:
    """Where the servers listen, and the `authorization` of a caller and of an operator."""

    grpc: str
    rest: str
    keys: dict[str, str]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=DOORS)
async def doors(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Doors]:
    """One predictor and one gateway for all clients, over one broker; they serve `mlp`, `echo` and `other`."""
    home = tmp_path_factory.mktemp("clients")
    async with world(home, server_name="lepton-of-the-test", door=request.param) as predictor, \
            open_house(home, predictor.broker, predictor.database) as gateway:
        operator = await predictor.registry.key(Scope.ADMIN)
        asking = gateway.client(operator.removeprefix("Bearer "))
        for name, model in (("mlp", OneTensor()), ("echo", Echo()), ("other", OneTensor())):
            await predictor.registry.publish(name, model)

        async def known() -> bool:
            answers = [await asking.get(f"/v2/models/{name}/ready") for name in ("mlp", "echo", "other")]
            return all(answer.status_code == 200 for answer in answers)

        await apoll_until(known, "the gateway to know a predictor with every model", 20)
        yield Doors(predictor.address, gateway.address, {
            "predict": predictor.metadata[0][1], "admin": operator})


async def run(doors: Doors, script: str, *arguments: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIENT_KEYS", json.dumps(doors.keys))
    await asyncio.to_thread(clients.run, "python", str(SCRIPTS / script), *arguments)


@pytest.mark.parametrize("script", ["triton_grpc.py", "triton_grpc_aio.py", "triton_shared_memory.py"])
async def test_tritonclient_speaks_grpc_with_the_predictor(
        doors: Doors, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await run(doors, script, doors.grpc, monkeypatch=monkeypatch)


@pytest.mark.parametrize("script", ["triton_http.py", "triton_http_aio.py", "triton_http_operating.py"])
async def test_tritonclient_speaks_http_with_the_gateway(
        doors: Doors, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await run(doors, script, doors.rest, monkeypatch=monkeypatch)


async def test_kserve_speaks_with_both(doors: Doors, monkeypatch: pytest.MonkeyPatch) -> None:
    await run(doors, "kserve_both.py", doors.rest, doors.grpc, monkeypatch=monkeypatch)


async def test_mlserver_infer_answers_every_line_of_a_file(doors: Doors, tmp_path: Path) -> None:
    lines = [json.dumps({"id": f"line-{number}", "inputs": [
        {"name": "x", "datatype": "FP32", "shape": [1, 30], "data": [float(number)] * 30}]}) for number in range(7)]
    (tmp_path / "in.jsonl").write_text("\n".join(lines) + "\n")
    await asyncio.to_thread(
        clients.run, "mlserver", "infer", "-u", doors.rest, "-m", "mlp", "-i", str(tmp_path / "in.jsonl"), "-o",
        str(tmp_path / "out.jsonl"), "-H", f"authorization:{doors.keys['predict']}", "--batch-size", "3")
    answers = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert sorted(answer["id"] for answer in answers) == [f"line-{number}" for number in range(7)]
    for answer in answers:
        outputs = {output["name"]: output for output in answer["outputs"]}
        assert sum(outputs["probabilities"]["data"]) == pytest.approx(1, abs=1e-5)
