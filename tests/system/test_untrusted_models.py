"""A model whose bytes or signature do not hold is refused by the running predictor while the old one serves on."""

import hashlib
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
from aiokafka import AIOKafkaProducer

from lepton.clock import SystemClock
from lepton.contracts.pb import grpc_service_pb2_grpc
from lepton.contracts.pb.models_pb2 import ModelState, ModelVersion
from lepton.contracts.signing import Identity, sign_manifest, sign_message
from lepton.store.artifacts import Artifacts
from lepton.store.models import Models
from lepton.store.mongo import Database
from tests.harness.ledger import phishing_rows
from tests.harness.stack import LocalStack
from tests.harness.wait import apoll_until
from tests.system.test_loop import infer_request

pytestmark = [pytest.mark.kafka, pytest.mark.mongo, pytest.mark.process]


@pytest.fixture
async def database(trained_stack: LocalStack) -> AsyncIterator[Database]:
    database = Database.connect(trained_stack.mongo, "lepton")
    yield database
    await database.close()


def copied(state: ModelState, model: str, by: Identity) -> ModelState:
    """The champion of `state` as version 1 of a model of its own, so that no other test's registry is touched."""
    champion = next(kept for kept in state.versions if kept.version == state.champion)
    version = ModelVersion.FromString(champion.SerializeToString())
    version.model = version.manifest.model = model
    version.version = version.manifest.version = 1
    sign_manifest(by, version)
    return signed_state(model, 1, [version], by)


def signed_state(model: str, revision: int, versions: list[ModelVersion], by: Identity) -> ModelState:
    """A state whose newest version is champion."""
    state = ModelState(model=model, revision=revision, champion=versions[-1].version, reason="published")
    state.versions.extend(versions)
    state.changed_at.FromDatetime(datetime.now(UTC))
    sign_message(by, state)
    return state


def successor(state: ModelState, sha256: str, manifest_by: Identity, state_by: Identity) -> ModelState:
    """The next state of `state`, in which a copy of its version with the digest `sha256` is champion."""
    forged = ModelVersion.FromString(state.versions[0].SerializeToString())
    forged.version = forged.manifest.version = 2
    forged.manifest.sha256 = sha256
    sign_manifest(manifest_by, forged)
    return signed_state(state.model, state.revision + 1, [state.versions[0], forged], state_by)


async def announce(stack: LocalStack, state: ModelState) -> None:
    await write(stack, state.model, state.SerializeToString(deterministic=True))


async def write(stack: LocalStack, model: str, value: bytes | None) -> None:
    """What the registry's relay would say of a model; None: there is no such model any more."""
    producer = AIOKafkaProducer(bootstrap_servers=stack.kafka, acks="all")
    await producer.start()
    try:
        await producer.send_and_wait("lepton-models", value, key=model.encode())
    finally:
        await producer.stop()


@pytest.fixture
async def model(trained_stack: LocalStack) -> AsyncIterator[str]:
    """Name of a model that is announced, but in no registry; withdrawn in the end, or it would count as lost there."""
    name = f"forged-{uuid.uuid4().hex[:8]}"
    yield name
    await write(trained_stack, name, None)


async def answering_version(stack: LocalStack, model: str) -> str:
    """Version that answers a protocol client; empty while none does."""
    request = infer_request(next(phishing_rows()))
    request.model_name = model
    async with grpc.aio.insecure_channel(stack.grpc) as channel:
        stub = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)
        try:
            answer = await stub.ModelInfer(request, metadata=stack.grpc_metadata, timeout=10)
        except grpc.aio.AioRpcError as error:
            assert error.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE), error.details()
            return ""
    return str(answer.model_version)


@pytest.mark.parametrize("forge", ["flipped-byte", "manifest-by-a-wrong-key", "state-by-a-wrong-key"])
async def test_it_is_refused_and_the_old_version_serves(trained_stack: LocalStack, database: Database, model: str,
                                                        forge: str, tmp_path: Path) -> None:
    stack = trained_stack
    right = Identity.load(stack.home / "keys" / "trainer.json")
    wrong = Identity.create(tmp_path, "trainer")
    good = copied(await Models(database, SystemClock(), lambda _: None).state("phishing"), model, right)
    await announce(stack, good)
    await apoll_until(lambda: answering_version(stack, model), "the copied model to be served", 20)
    sha256 = good.versions[0].manifest.sha256
    if forge == "flipped-byte":
        data = await Artifacts(database).get(sha256)
        sha256 = hashlib.sha256(model.encode()).hexdigest()
        await store_under(database, sha256, bytes([*data[:-1], data[-1] ^ 1]))
    stack.mark_log("predictor-0")
    await announce(stack, successor(good, sha256, manifest_by=wrong if forge.startswith("manifest") else right,
                                    state_by=wrong if forge.startswith("state") else right))

    async def told() -> bool:
        return model in stack.log_tail("predictor-0")

    await apoll_until(told, "the predictor's word about the refused model", 20)
    assert await answering_version(stack, model) == "1"
    said = stack.log_tail("predictor-0").lower()
    assert ("was changed since it was signed" if forge == "flipped-byte" else "signature") in said


async def store_under(database: Database, digest: str, data: bytes) -> None:
    """Store bytes under a digest that is not theirs, as a fault of the disk would leave them."""
    await database.collection("fs.chunks").put(
        {"_id": f"{digest}-000000", "files_id": digest, "n": 0, "data": data})
    await database.collection("fs.files").put(
        {"_id": digest, "filename": digest, "length": len(data), "chunkSize": len(data)})
