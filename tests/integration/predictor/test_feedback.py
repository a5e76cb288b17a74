"""What people say of answers, over gRPC to a real predictor and through a real broker, undoes a version they reject."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from lepton.bus import kafka
from lepton.contracts import pipeline as pipelines
from lepton.contracts.apikeys import Scope, parse_bearer
from lepton.contracts.pb import incidents_pb2, predictions_pb2, recovery_pb2
from lepton.contracts.pb.prediction_pb2 import FeedbackRequest
from lepton.contracts.pb.prediction_pb2_grpc import PredictionStub
from lepton.contracts.topics import Topic
from lepton.runtime.settings import BrokerOptions
from lepton.store.mongo import Database
from services.watchdog.core.journal import read_inputs
from services.watchdog.core.summaries.counts import Opined
from tests.harness.wait import apoll_until
from tests.integration.predictor.conftest import Ground
from tests.unit.watchdog.house import House

pytestmark = [pytest.mark.kafka, pytest.mark.mongo, pytest.mark.process]

ROWS = 20


def opinions(model: str, version: int, key: str, *, accepted: bool) -> FeedbackRequest:
    """Half a window, of one author; each author speaks of events of its own."""
    request = FeedbackRequest(model=model)
    for number in range(ROWS // 2):
        request.opinions.add(event_id=event(version, key, number), accepted=accepted, reason="as it was")
    return request


def event(version: int, key: str, number: int) -> str:
    return f"v{version}-{key[-6:]}-{number}"


@pytest.fixture
async def house(ground: Ground, model: str, tmp_path: Path) -> AsyncIterator[House]:
    """A watchdog's surroundings on the same servers, with connections and trusted keys of its own."""
    broker = kafka.connect(BrokerOptions(ground.bootstrap, "house"))
    house = House(tmp_path / "house", broker, Database.connect(ground.mongo_url, ground.database_name), model)
    await house.furnish()
    yield house
    await house.leave()
    await broker.close()


async def test_a_version_that_two_authors_reject_is_rolled_back(ground: Ground, house: House, model: str) -> None:
    spec = pipelines.parse(f"""
apiVersion: lepton/v1
kind: Pipeline
metadata: {{name: {model}}}
events: {{partitions: 2, fields: {{x: {{type: float}}}}}}
watch: {{feedback: {{rows: {ROWS}, windows: 1}}}}
""")
    keys = [await ground.registry.key(Scope.WRITE) for _ in range(2)]

    async def predict(version: int) -> None:
        for key in keys:
            for number in range(ROWS // 2):
                name = event(version, key, number)
                await house.write(Topic.PREDICTIONS, predictions_pb2.PredictionServed(
                    event_id=name, model=model, version=version, label="true",
                    source=predictions_pb2.PREDICTION_SOURCE_STREAM), name, pipeline=model)

    async def said(version: int) -> list[Opined]:
        entries = await house.read(Topic.WATCHDOG_JOURNAL, incidents_pb2.JournalEntry)
        found = [one for entry in entries if entry.kind == "signal" for one in read_inputs(entry.body_json)
                 if isinstance(one, Opined) and (one.pipeline, one.version) == (model, version)]
        return found if sum(one.accepted + one.rejected for one in found) >= ROWS else []

    async def tell(stub: Any, version: int, *, accepted: bool) -> None:
        for key in keys:
            request = opinions(model, version, key, accepted=accepted)
            for _ in range(2):
                answer = await stub.Feedback(request, metadata=(("authorization", key),), timeout=20)
                assert len(answer.opinion_event_ids) == ROWS // 2

    async with (ground.predictor() as predictor, house.watched(),
                grpc.aio.insecure_channel(predictor.grpc_address) as channel):
        stub: Any = PredictionStub(channel)
        await house.apply(spec)
        await house.crown(1)
        await apoll_until(lambda: _known(stub, model, keys[0]), "the predictor to know the pipeline", 20)
        await predict(1)
        await tell(stub, 1, accepted=True)
        first = await apoll_until(lambda: said(1), "what was said of version 1", 30)
        # Told twice, counted once; and the authors are the keys.
        assert {one.author for one in first} == {parse_bearer(key)[0] for key in keys}
        assert sum(one.accepted for one in first) == ROWS
        await house.crown(2, previous=1)
        await predict(2)
        await tell(stub, 2, accepted=False)
        command = await house.command(timeout_s=30)
        incident = await house.incident("commanded", "poor_feedback")
    assert command.action == recovery_pb2.RECOVERY_ACTION_ROLL_BACK
    assert (command.target, command.arguments["from_version"]) == (f"model:{model}", "2")
    assert "100% of 10 opinions reject answers of version 2, 0% of 10 of version 1" in incident.timeline[0].detail


async def _known(stub: Any, model: str, key: str) -> bool:
    """An opinion that says nothing is refused as such once the pipeline is known."""
    try:
        await stub.Feedback(FeedbackRequest(model=model), metadata=(("authorization", key),), timeout=20)
    except grpc.aio.AioRpcError as error:
        return bool(error.code() == grpc.StatusCode.INVALID_ARGUMENT)
    return True
