"""A model whose bytes or signature do not hold is refused by the running predictor while the old one serves on."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from aiokafka import AIOKafkaProducer

from lepton.clock import SystemClock
from lepton.contracts.pb.models_pb2 import ModelState, ModelVersion
from lepton.contracts.signing import Identity, sign_manifest, sign_message
from lepton.store.artifacts import Artifacts
from lepton.store.models import Models
from lepton.store.mongo import MongoDatabase
from tests.harness.ledger import phishing_rows
from tests.harness.stack import LocalStack
from tests.harness.wait import apoll_until

pytestmark = [pytest.mark.kafka, pytest.mark.mongo, pytest.mark.process]


@pytest.fixture
async def database(trained_stack: LocalStack) -> AsyncIterator[MongoDatabase]:
    database = await MongoDatabase.connect(trained_stack.mongo, "lepton")
    yield database
    await database.close()


async def champion(database: MongoDatabase) -> tuple[ModelState, ModelVersion, bytes]:
    state = await Models(database, SystemClock(), lambda _: None).state("phishing")
    version = next(kept for kept in state.versions if kept.version == state.champion)
    return state, version, await Artifacts(database).get(version.manifest.sha256)


async def announce(stack: LocalStack, state: ModelState) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=stack.kafka, acks="all")
    await producer.start()
    try:
        await producer.send_and_wait("lepton-models", state.SerializeToString(deterministic=True), key=b"phishing")
    finally:
        await producer.stop()


def successor(state: ModelState, version: ModelVersion, sha256: str, manifest_by: Identity,
              state_by: Identity) -> ModelState:
    """The next registry state, in which a copy of `version` with the digest `sha256` is champion."""
    forged = ModelVersion.FromString(version.SerializeToString())
    forged.version = forged.manifest.version = version.version + 1000
    forged.manifest.sha256 = sha256
    sign_manifest(manifest_by, forged)
    following = ModelState.FromString(state.SerializeToString())
    following.revision += 1
    following.versions.append(forged)
    following.previous_champion, following.champion = following.champion, forged.version
    following.changed_at.FromDatetime(datetime.now(UTC))
    sign_message(state_by, following)
    return following


async def refusal_is_reported_and_the_old_one_serves(stack: LocalStack, old: int) -> None:
    def reported() -> bool:
        return "refus" in stack.log_tail("predictor-0").lower()

    async def told() -> bool:
        return reported()

    await apoll_until(told, "the predictor's word about the refused model", 20)
    answer = await stack.post("/v1/models/phishing/predict", {"rows": [next(phishing_rows())]})
    assert answer["version"] == old


@pytest.mark.parametrize("forge", ["flipped byte", "manifest by a wrong key", "state by a wrong key"])
async def test_it_is_refused_and_the_old_version_serves(trained_stack: LocalStack, database: MongoDatabase,
                                                        forge: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    stack = trained_stack
    state, version, data = await champion(database)
    right = Identity.load(stack.home / "keys" / "trainer.json")
    wrong = Identity.create(tmp_path_factory.mktemp("keys"), "trainer")
    stack.mark_log("predictor-0")
    sha256 = version.manifest.sha256
    if forge == "flipped byte":
        flipped = bytes([*data[:-1], data[-1] ^ 1])
        # Stored under the digest of the good bytes, as a fault of the store would leave it.
        sha256 = "0" * 64
        await store_under(database, sha256, flipped)
    await announce(stack, successor(state, version, sha256,
                                    manifest_by=wrong if forge.startswith("manifest") else right,
                                    state_by=wrong if forge.startswith("state") else right))
    await refusal_is_reported_and_the_old_one_serves(stack, state.champion)
    # What is right again is taken again: the registry's own next state.
    following = ModelState.FromString(state.SerializeToString())
    following.revision += 2
    sign_message(right, following)
    await announce(stack, following)


async def store_under(database: MongoDatabase, digest: str, data: bytes) -> None:
    await database.collection("fs.chunks").put(
        {"_id": f"{digest}-000000", "files_id": digest, "n": 0, "data": data})
    await database.collection("fs.files").put(
        {"_id": digest, "filename": digest, "length": len(data), "chunkSize": len(data)})

