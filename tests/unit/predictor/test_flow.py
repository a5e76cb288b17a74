"""The flow beside the ordinary: keys that are wrong in every way, a cache that cannot be written, a full log."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lepton.bus.memory import MemoryBroker
from lepton.bus.producer import Producer
from lepton.bus.records import TopicPlan
from lepton.clock import FakeClock
from lepton.contracts import topics
from lepton.contracts.apikeys import bearer, new_key
from lepton.contracts.pb import models_pb2
from lepton.contracts.signing import TrustStore, sign_manifest, sign_message
from lepton.errors import Refused, Unavailable
from lepton.store.artifacts import Artifacts, FileArtifacts
from lepton.store.keys import Keys
from lepton.store.memory import MemoryDatabase
from services.predictor.core.answers import Answers, read
from services.predictor.core.engine import Setup
from services.predictor.core.keyring import Keyring
from services.predictor.core.session import Options
from services.predictor.edge import served as serveds
from services.predictor.edge.served import ServedLog
from services.predictor.flow.access import Access
from services.predictor.flow.answered import Answered
from services.predictor.flow.files import Sources
from services.predictor.flow.library import Library
from tests.harness.onnx_models import Linear
from tests.harness.registry import trainer


class Dropped:
    """Counts what the log dropped; the only part of Measures it uses."""

    def __init__(self) -> None:
        self.models: list[str] = []

    def dropped(self, model: str) -> None:
        self.models.append(model)


async def test_a_wrong_secret_is_refused_without_asking_the_database_again() -> None:
    database, clock = MemoryDatabase(), FakeClock()
    keys = Keys(database)
    key_id, secret, record = new_key()
    await keys.create(record.to_document())
    access = Access(keys, Keyring(), clock)
    other = new_key()[1]
    with pytest.raises(Refused, match="not known"):
        await access.identify(bearer(key_id, other))
    assert await access.identify(bearer(key_id, secret)) == record
    asked = 0
    documents = database.collection("keys")
    get = documents.get

    async def counted(key: str) -> Any:
        nonlocal asked
        asked += 1
        return await get(key)

    documents.get = counted  # type: ignore[method-assign]
    for _ in range(3):
        with pytest.raises(Refused, match="not known"):
            await access.identify(bearer(key_id, other))
        assert await access.identify(bearer(key_id, secret)) == record
    assert asked == 0
    unknown = new_key()
    for _ in range(3):
        with pytest.raises(Refused, match="not known"):
            await access.identify(bearer(*unknown[:2]))
    assert asked == 1
    await documents.delete({})
    await clock.advance(20)
    await access.renew()
    assert access.recall(bearer(key_id, secret)) is None


async def test_a_cache_that_cannot_be_written_costs_the_cache_only(tmp_path: Path) -> None:
    identity, database = trainer(tmp_path), MemoryDatabase()
    blocked = tmp_path / "models"
    blocked.write_text("a file where a folder belongs")
    store, clock = Artifacts(database), FakeClock(datetime.now(UTC))
    library = Library(Sources(store, FileArtifacts(blocked / "inside"), TrustStore.load(tmp_path / "trust")),
                      Setup(Options("cpu")), clock)
    linear = Linear({"amount": "float"})
    data = linear.build()
    await store.put(data)
    state = models_pb2.ModelState(model="tiny", revision=1, champion=1)
    version = state.versions.add(model="tiny", version=1, manifest=linear.manifest(data),
                                 status=models_pb2.VERSION_STATUS_READY)
    sign_manifest(identity, version)
    sign_message(identity, state)
    await library.adopt(state)
    assert library.serving("tiny") == 1
    assert library.in_use() == 0


def answered(request_id: str) -> Answered:
    answers: Answers = read({"prediction": np.array([1.0])}, ())
    return Answered("tiny", 1, request_id, answers, 0.001, None)


async def test_a_log_that_is_full_drops_and_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serveds, "QUEUE", 2)
    dropped = Dropped()
    served = ServedLog(Producer(MemoryBroker(), "test"), {"tiny": 1}, dropped, "p", FakeClock())  # type: ignore[arg-type]
    for number in range(5):
        served.offer(answered(str(number)))
    assert dropped.models == ["tiny"] * 3


async def test_answers_the_bus_does_not_take_are_counted_as_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: object) -> None:
        raise Unavailable("the bus is away")

    broker, dropped, clock = MemoryBroker(), Dropped(), FakeClock()
    await broker.create_topics([TopicPlan(*plan) for plan in topics.plans("tiny")])
    producer = Producer(broker, "test")
    monkeypatch.setattr(producer, "send_all", away)
    served = ServedLog(producer, {"tiny": 1}, dropped, "p", clock)  # type: ignore[arg-type]
    served.offer(answered("a"))
    served.offer(answered("b"))
    await served.send()
    await served.send()
    assert dropped.models == ["tiny", "tiny"]
