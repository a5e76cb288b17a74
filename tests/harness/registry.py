"""What stands in for gateway, trainer and ingest around a predictor: real messages, stores and signatures."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from lepton.bus.producer import Producer
from lepton.bus.records import Broker, Outgoing, Record, TopicPlan
from lepton.contracts import features, pipeline, topics
from lepton.contracts.apikeys import Scope, bearer, new_key
from lepton.contracts.pb import models_pb2, pipelines_pb2
from lepton.contracts.signing import Identity, TrustedKey, sign_manifest, sign_message
from lepton.contracts.topics import Topic
from lepton.store.artifacts import Artifacts
from lepton.store.documents import DocumentDatabase
from lepton.store.keys import Keys


class Candidate(Protocol):
    """A model and what is said of it."""

    def build(self) -> bytes: ...

    def manifest(self, data: bytes, model: str, version: int) -> models_pb2.ModelManifest: ...


def trainer(home: Path, name: str = "trainer", *, trusted: bool = True) -> Identity:
    """An identity with keys under `home`; its public key is among the trusted ones in `home/trust`, if it is to be."""
    identity = Identity.create(home / "keys", name)
    (home / "trust").mkdir(exist_ok=True)
    if trusted:
        now = datetime.now(UTC)
        TrustedKey(name, identity.public_bytes(), frozenset({"trainer"}), now - timedelta(hours=1),
                   now + timedelta(hours=1)).write(home / "trust")
    return identity


class Registry:
    """Publishes pipelines, models, features and keys to a broker and a database."""

    def __init__(self, broker: Broker, database: DocumentDatabase, identity: Identity) -> None:
        self.identity = identity
        self.artifacts = Artifacts(database)
        self._broker = broker
        self._keys = Keys(database)
        self._producer = Producer(broker, "registry")
        self._states: dict[str, models_pb2.ModelState] = {}

    async def start(self) -> None:
        await self._broker.create_topics([TopicPlan(*plan) for plan in topics.plans()])
        await self._producer.start()

    async def stop(self) -> None:
        await self._producer.stop()

    async def key(self, *scopes: Scope) -> str:
        """The `authorization` value of a new key."""
        key_id, secret, record = new_key(scopes or (Scope.PREDICT,))
        await self._keys.create(record.to_document())
        return bearer(key_id, secret)

    async def revoke(self, header: str) -> None:
        await self._keys.revoke(header.removeprefix("Bearer ").partition(".")[0])

    async def apply(self, name: str, fields: Mapping[str, str], *, partitions: int = 2, generation: int = 1,
                    version: int = 1, batching: Mapping[str, Any] | None = None,
                    instances: int = 1, results: str = "records") -> pipeline.Pipeline:
        """Create the pipeline's topics and announce it."""
        await self.create(name, partitions=partitions, generation=generation)
        return await self.announce_pipeline(name, fields, partitions=partitions, generation=generation,
                                            version=version, batching=batching, instances=instances,
                                            results=results)

    async def create(self, name: str, *, partitions: int = 2, generation: int = 1) -> None:
        """Create a pipeline's topics."""
        await self._broker.create_topics([TopicPlan(*plan) for plan in topics.plans(name, generation, partitions)])

    async def announce_pipeline(self, name: str, fields: Mapping[str, str], *, partitions: int = 2,
                                generation: int = 1, version: int = 1,
                                batching: Mapping[str, Any] | None = None,
                                instances: int = 1, results: str = "records") -> pipeline.Pipeline:
        """Announce a pipeline, whether its topics exist or not."""
        spec = specify(name, fields, partitions=partitions, batching=batching, instances=instances, results=results)
        await self.announce_spec(spec, generation=generation, version=version)
        return spec

    async def announce_spec(self, spec: pipeline.Pipeline, *, generation: int = 1, version: int = 1) -> None:
        await self._producer.send(Topic.PIPELINES, self._pipeline(spec, generation, version), key=spec.name)

    async def delete(self, spec: pipeline.Pipeline, *, generation: int = 1) -> None:
        state = self._pipeline(spec, generation, 2)
        state.deleted = True
        await self._producer.send(Topic.PIPELINES, state, key=spec.name)

    @staticmethod
    def _pipeline(spec: pipeline.Pipeline, generation: int, version: int) -> pipelines_pb2.PipelineState:
        state = pipelines_pb2.PipelineState(
            name=spec.name, version=version, generation=generation, partitions=spec.partitions,
            spec_json=spec.canonical_json(), spec_digest=spec.digest(), applied_by="test")
        state.applied_at.FromDatetime(datetime.now(UTC))
        return state

    async def publish(self, name: str, linear: Candidate, *, store: bool = True) -> models_pb2.ModelState:
        """A new version, signed, stored, champion at once."""
        data = linear.build()
        state = self.state(name)
        number = len(state.versions) + 1
        version = models_pb2.ModelVersion(model=name, version=number, status=models_pb2.VERSION_STATUS_READY,
                                          manifest=linear.manifest(data, name, number))
        version.manifest.created_at.FromDatetime(datetime.now(UTC))
        sign_manifest(self.identity, version)
        if store:
            await self.artifacts.put(data)
        state.versions.append(version)
        state.previous_champion, state.champion, state.reason = state.champion, number, "published"
        return await self.announce(state)

    async def roll_back(self, name: str) -> models_pb2.ModelState:
        state = self.state(name)
        state.champion, state.previous_champion, state.reason = state.previous_champion, 0, "rolled_back"
        return await self.announce(state)

    def state(self, name: str) -> models_pb2.ModelState:
        """A copy of the newest announced state, to be changed and announced."""
        copy = models_pb2.ModelState(model=name)
        copy.CopyFrom(self._states.get(name, copy))
        return copy

    async def announce(self, state: models_pb2.ModelState, identity: Identity | None = None) -> models_pb2.ModelState:
        """Announce `state` as the next revision, signed by the trainer unless by another."""
        state.revision += 1
        state.changed_at.FromDatetime(datetime.now(UTC))
        sign_message(identity or self.identity, state)
        self._states[state.model] = state
        await self.send(state.model, state)
        return state

    async def send(self, key: str, state: models_pb2.ModelState | None) -> None:
        """Put exactly this on the registry's topic."""
        await self._producer.send(Topic.MODELS, state, key=key)

    async def features(self, spec: pipeline.Pipeline, rows: Sequence[Mapping[str, Any]], *, partition: int = 0,
                       generation: int = 1, first: int = 0) -> Record:
        """One features record; each row has its `_event_id` and may have `_traceparent`, the rest are fields."""
        batch = features_batch(spec, rows, first)
        name = topics.name(Topic.FEATURES, spec.name, generation)
        (record,) = await self._producer.send_all([
            Outgoing(name, features.encode_batch(batch), partition=partition)])
        return record

    async def raw_features(self, spec: pipeline.Pipeline, value: bytes, *, partition: int = 0) -> None:
        """A record on the features topic that may be anything."""
        await self._producer.send_all([Outgoing(topics.name(Topic.FEATURES, spec.name), value, partition=partition)])


def specify(name: str, fields: Mapping[str, str], *, partitions: int = 2,
            batching: Mapping[str, Any] | None = None, instances: int = 1,
            results: str = "records") -> pipeline.Pipeline:
    """A Pipeline with these fields."""
    return pipeline.from_json(json.dumps({
        "apiVersion": "lepton/v1", "kind": "Pipeline", "metadata": {"name": name},
        "events": {"partitions": partitions, "fields": {field: {"type": kind} for field, kind in fields.items()}},
        "serve": {"batching": dict(batching or {}), "instances": instances, "stream": {"results": results}}}))


def features_batch(spec: pipeline.Pipeline, rows: Sequence[Mapping[str, Any]], first: int = 0) -> pa.RecordBatch:
    """Rows as ingest would write them; `first` is the source offset of the first."""
    now = datetime.now(UTC)
    whole = [{features.ENTITY: f"entity-{number % 7}", features.OCCURRED_AT: now, features.SOURCE: "test",
              features.SOURCE_OFFSET: first + number, features.OUTLIERS: [], **row} for number, row in enumerate(rows)]
    return pa.RecordBatch.from_pylist(whole, schema=features.features_schema(spec))


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
