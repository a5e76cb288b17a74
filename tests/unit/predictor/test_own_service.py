"""lepton.v1.Prediction beyond named fields: by entity, rows that fail alone, and what became true of an answer."""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from lepton.contracts import features, pipeline, topics
from lepton.contracts.apikeys import Scope, parse_bearer
from lepton.contracts.feedback import opinions
from lepton.contracts.feedback.opinions import Opinion
from lepton.contracts.pb import prediction_pb2, prediction_pb2_grpc
from lepton.contracts.pipeline import Pipeline
from lepton.contracts.topics import Topic
from tests.harness.bus import read_all
from tests.harness.onnx_models import Linear
from tests.harness.wait import apoll_until
from tests.unit.predictor.world import World, status, world

pytestmark = pytest.mark.usefixtures("door")

FIELDS = {"amount": "float", "visits": "int"}
LINEAR = Linear(FIELDS, bias=1.0)


def spec(**serve: Any) -> Pipeline:
    return pipeline.from_json(json.dumps({
        "apiVersion": "lepton/v1", "kind": "Pipeline", "metadata": {"name": "m"}, "serve": serve,
        "events": {"partitions": 2, "fields": {name: {"type": kind} for name, kind in FIELDS.items()},
                   "label": {"field": "late", "type": "bool", "arrives": "later"}}}))


REMEMBERS = spec(entities={"remember": 100})


async def serve(here: World, wanted: Pipeline = REMEMBERS) -> None:
    await here.registry.create("m")
    await here.registry.announce_spec(wanted)
    await here.registry.publish("m", LINEAR)
    await here.metric('lepton_predictor_model_version{model="m",provider="CPUExecutionProvider"} 1.0')


def stub(here: World) -> Any:
    return prediction_pb2_grpc.PredictionStub(here.channel)


def request(rows: Sequence[Mapping[str, Any]] = (), **members: Any) -> prediction_pb2.PredictRequest:
    asked = prediction_pb2.PredictRequest(model="m", **members)
    for row in rows:
        asked.rows.add().update(row)
    return asked


async def ask(here: World, rows: Sequence[Mapping[str, Any]] = (), **members: Any) -> prediction_pb2.PredictResponse:
    answer: prediction_pb2.PredictResponse = await stub(here).Predict(request(rows, **members), metadata=here.metadata)
    return answer


async def known(here: World, *entities: str) -> None:
    """Wait until a predictor remembers them."""
    async def probe() -> bool:
        try:
            await ask(here, entities=entities)
        except grpc.aio.AioRpcError as error:
            assert error.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE,
                                    grpc.StatusCode.UNIMPLEMENTED)
            return False
        return True
    await apoll_until(probe, "the entities", 10)


def event(entity: str, number: int, at: datetime, **fields: Any) -> dict[str, Any]:
    return {features.EVENT_ID: f"{entity}-{number}", features.ENTITY: entity, features.OCCURRED_AT: at, **fields}


async def test_a_row_takes_the_newest_features_of_its_entity_where_it_names_none_itself(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    async with world(tmp_path) as here:
        await serve(here)
        await here.registry.features(REMEMBERS, [event("ann", 1, now, amount=1.0, visits=2),
                                                 event("bob", 1, now, amount=10.0, visits=None)])
        await here.registry.features(REMEMBERS, [event("ann", 2, now + timedelta(seconds=1), amount=3.0, visits=4)],
                                     partition=1)
        await known(here, "ann", "bob")
        await apoll_until(lambda: _newest(here, "ann", "ann-2"), "ann's second event", 10)
        named = await ask(here, [{"amount": 3.0, "visits": 4}, {"amount": 10.0, "visits": None}, {"amount": 5.0,
                                                                                               "visits": 4}])
        await here.metric('lepton_predictor_entities{pipeline="m"} 2.0')
        joined = await ask(here, entities=["ann", "bob"])
        assert [row.number for row in joined.rows] == [row.number for row in named.rows[:2]]
        assert [row.joined.event_id for row in joined.rows] == ["ann-2", "bob-1"]
        assert joined.rows[1].joined.occurred_at.ToDatetime(UTC) == now
        mixed = await ask(here, [{"amount": 5.0}, {"amount": 10.0, "visits": None}], entities=["ann", ""])
        assert [row.number for row in mixed.rows] == [named.rows[2].number, named.rows[1].number]
        assert not mixed.rows[1].HasField("joined")


async def _newest(here: World, entity: str, event_id: str) -> bool:
    return (await ask(here, entities=[entity])).rows[0].joined.event_id == event_id


async def test_a_predictor_that_comes_back_knows_what_the_topic_keeps(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    async with world(tmp_path) as here:
        await here.registry.create("m")
        # Before the predictor hears of the pipeline, as for one that was away.
        await here.registry.features(REMEMBERS, [event("ann", 1, now, amount=1.0, visits=2)])
        await here.registry.announce_spec(REMEMBERS)
        await here.registry.publish("m", LINEAR)
        await here.metric('lepton_predictor_model_version{model="m",provider="CPUExecutionProvider"} 1.0')
        await known(here, "ann")
        code, said = await status(stub(here).Predict(request(entities=["cid"]), metadata=here.metadata))
        assert code == grpc.StatusCode.NOT_FOUND
        assert "nothing is remembered of entity 'cid'" in said
        assert "remedy: send an event of it" in said


async def test_a_pipeline_that_asks_for_no_memory_says_how_to_have_one(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await serve(here, spec())
        code, said = await status(stub(here).Predict(request(entities=["ann"]), metadata=here.metadata))
        assert code == grpc.StatusCode.UNIMPLEMENTED
        assert "set serve.entities.remember in the Pipeline" in said
        await here.registry.announce_spec(REMEMBERS, version=2)
        await here.registry.features(REMEMBERS, [event("ann", 1, datetime.now(UTC), amount=1.0)])
        await known(here, "ann")


async def test_each_row_fails_alone_where_that_is_asked_for(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await serve(here, spec())
        rows: list[dict[str, Any]] = [{"amount": 1.0}, {"amuont": 1.0}, {"amount": "much"}, {"visits": 2.5},
                                      {"amount": 2.0}]
        code, _ = await status(stub(here).Predict(request(rows), metadata=here.metadata))
        assert code == grpc.StatusCode.INVALID_ARGUMENT
        answer = await ask(here, rows, each=True)
        assert [row.WhichOneof("answer") for row in answer.rows] == ["number", None, None, None, "number"]
        assert [row.error.field for row in answer.rows] == ["", "amuont", "amount", "visits", ""]
        assert {row.error.outcome for row in answer.rows[1:4]} == {"Invalid"}
        assert "did you mean `amount`" in answer.rows[1].error.remedy
        assert [row.number for row in answer.rows[::4]] == [row.number for row in
                                                            (await ask(here, [rows[0], rows[4]])).rows]
        none = await ask(here, [{"nothing": 1}], each=True)
        assert none.version == 1
        assert [row.error.outcome for row in none.rows] == ["Invalid"]


async def test_what_concerns_all_rows_fails_the_request(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await serve(here, spec())
        cases = {
            (grpc.StatusCode.UNIMPLEMENTED, "set model.explain.rows: true"): request([{}], explain=True, each=True),
            (grpc.StatusCode.INVALID_ARGUMENT, "2 entities for 1 rows"): request([{}], entities=["a", "b"], each=True),
            (grpc.StatusCode.INVALID_ARGUMENT, "the request has 0 rows"): request([], each=True),
            (grpc.StatusCode.UNIMPLEMENTED, "serve.entities.remember"): request([{}], entities=["a"], each=True),
        }
        for (code, said), asked in cases.items():
            found, text = await status(stub(here).Predict(asked, metadata=here.metadata))
            assert (found, said in text) == (code, True), text


async def test_an_outcome_reaches_the_labels_topic_by_event_or_by_entity(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    async with world(tmp_path) as here:
        await serve(here)
        await here.registry.features(REMEMBERS, [event("ann", 1, now, amount=1.0)])
        await known(here, "ann")
        writer = (("authorization", await here.registry.key(Scope.WRITE)),)
        told = prediction_pb2.FeedbackRequest(model="m")
        told.outcomes.add(event_id="e-1", flag=True)
        told.outcomes.add(entity="ann", flag=False).label_time.FromDatetime(now)
        answer = await stub(here).Feedback(told, metadata=writer)
        assert list(answer.event_ids) == ["e-1", "ann-1"]
        records = await read_all(here.broker, topics.name(Topic.LABELS, "m"))
        by_key = {(record.key or b"").decode(): json.loads(record.value or b"") for record in records}
        assert by_key["e-1"] == {"event_id": "e-1", "label": True}
        assert (by_key["ann-1"]["label"], by_key["ann-1"]["entity"]) == (False, "ann")
        assert datetime.fromisoformat(by_key["ann-1"]["label_time"]) == now
        earlier = prediction_pb2.FeedbackRequest(model="m")
        earlier.outcomes.add(entity="ann", flag=True).at.FromDatetime(now - timedelta(seconds=1))
        code, said = await status(stub(here).Feedback(earlier, metadata=writer))
        assert code == grpc.StatusCode.NOT_FOUND
        assert "name the event by its id" in said


async def test_an_opinion_reaches_the_labels_topic_with_its_author_and_as_no_label(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await serve(here)
        key = await here.registry.key(Scope.WRITE)
        told = prediction_pb2.FeedbackRequest(model="m")
        told.outcomes.add(event_id="e-1", flag=True)
        told.opinions.add(event_id="e-1", accepted=False, reason="It was no purchase.", version=3)
        told.opinions.add(event_id="e-2", score=-0.5)
        answer = await stub(here).Feedback(told, metadata=(("authorization", key),))
        assert (list(answer.event_ids), list(answer.opinion_event_ids)) == (["e-1"], ["e-1", "e-2"])
        records = await read_all(here.broker, topics.name(Topic.LABELS, "m"))
        said = [opinions.decode(record.value) for record in records if opinions.is_opinion(record.headers)]
        author = parse_bearer(key)[0]
        assert sorted(said, key=lambda one: one.event_id) == [
            Opinion(event_id="e-1", author=author, accepted=False, reason="It was no purchase.", version=3),
            Opinion(event_id="e-2", author=author, score=-0.5)]
        assert [json.loads(record.value or b"") for record in records if not opinions.is_opinion(record.headers)] == [
            {"event_id": "e-1", "label": True}]


async def test_an_opinion_that_cannot_be_taken_writes_nothing(tmp_path: Path) -> None:
    wrong: dict[str, dict[str, Any]] = {
        "says nothing": {}, "between -1 and 1": {"score": math.nan}, "longer than 500": {
            "accepted": True, "reason": "x" * 501}, "of what": {"accepted": True, "event_id": ""}}
    async with world(tmp_path) as here:
        await serve(here)
        writer = (("authorization", await here.registry.key(Scope.WRITE)),)
        for why, members in wrong.items():
            told = prediction_pb2.FeedbackRequest(model="m")
            told.outcomes.add(event_id="e-1", flag=True)
            told.opinions.add(**{"event_id": "e-2", **members})
            code, said = await status(stub(here).Feedback(told, metadata=writer))
            assert (code, "opinions[0]" in said, why in said) == (grpc.StatusCode.INVALID_ARGUMENT, True, True), said
        assert await read_all(here.broker, topics.name(Topic.LABELS, "m")) == []


async def test_feedback_that_cannot_be_taken_writes_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await serve(here)
        writer = (("authorization", await here.registry.key(Scope.WRITE)),)
        wrong = prediction_pb2.FeedbackRequest(model="m")
        wrong.outcomes.add(event_id="e-1", flag=True)
        wrong.outcomes.add(event_id="e-2", number=1.0)
        code, said = await status(stub(here).Feedback(wrong, metadata=writer))
        assert code == grpc.StatusCode.INVALID_ARGUMENT
        assert "outcomes[1]" in said
        assert "send it as `flag`" in said
        wrong.model = "absent"
        code, _ = await status(stub(here).Feedback(wrong, metadata=writer))
        assert code == grpc.StatusCode.NOT_FOUND
        code, said = await status(stub(here).Feedback(wrong, metadata=here.metadata))
        assert code == grpc.StatusCode.PERMISSION_DENIED
        assert "scope `write`" in said
        assert await read_all(here.broker, topics.name(Topic.LABELS, "m")) == []


async def test_the_log_of_answers_tells_the_entity_a_row_was_joined_from(tmp_path: Path) -> None:
    async with world(tmp_path, log_share=1.0) as here:
        await serve(here)
        await here.registry.features(REMEMBERS, [event("ann", 1, datetime.now(UTC), amount=1.0)])
        await known(here, "ann")
        await ask(here, entities=["ann"], request_id="r-1")
        # Some rows of this have no answer, so that it is not logged.
        await ask(here, [{"amuont": 1.0}, {"amount": 1.0}], each=True, request_id="r-2")
        await ask(here, [{"amount": 1.0}], request_id="r-3")

        async def logged() -> set[tuple[str, str]]:
            found = {(one.event_id, one.entity) for one in await here.predictions("m", 1)}
            return found if any(event_id == "r-3" for event_id, _ in found) else set()

        found = await apoll_until(logged, "the log", 10)
        assert ("r-1", "ann") in found
        assert not any(event_id.startswith("r-2") for event_id, _ in found)
