"""Whoever reads the predictions topic takes both of its forms: watchdog, trainer and the ledger of `lepton chaos`."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from deploy.chaos.ledger import Ledger
from lepton.bus.consumer import message_of
from lepton.bus.memory import MemoryBroker
from lepton.bus.records import Outgoing, Record, TopicPlan
from lepton.clock import FakeClock
from lepton.contracts import codec, topics
from lepton.contracts.arrow import predictions
from lepton.contracts.pb import outcomes_pb2, predictions_pb2
from lepton.contracts.topics import Topic
from services.trainer.edge.labels import hear
from services.trainer.flow.rollouts import Labelled
from services.watchdog.core.inputs import Judged, Predicted
from services.watchdog.edge import quality
from services.watchdog.flow.observing import Observing
from tests.harness.ledger import ids_of_prediction
from tests.harness.wait import apoll_until
from tests.unit.watchdog.house import pipeline

NOW = datetime(2026, 11, 22, 7, tzinfo=UTC)
ANSWERS = (("e-0", "true", (0.25, 0.75)), ("e-1", "false", (0.5, 0.5)), ("e-2", "true", (0.0, 1.0)))
TOPIC = topics.name(Topic.PREDICTIONS, "shop")
FORMS = pytest.mark.parametrize("batched", [False, True], ids=["records", "batches"])


def outgoing(batched: bool) -> Sequence[Outgoing]:
    """The three answers by version 2 of a predictor that writes so."""
    if not batched:
        return [Outgoing(TOPIC, codec.encode(Topic.PREDICTIONS, predictions_pb2.PredictionServed(
            event_id=event_id, model="shop", version=2, source=predictions_pb2.PREDICTION_SOURCE_STREAM, label=label,
            probabilities=chances)), b"u", (), 0) for event_id, label, chances in ANSWERS]
    given: dict[str, Any] = {"event_id": [one[0] for one in ANSWERS], "version": [2] * 3, "traceparent": [None] * 3,
                             "entity": ["u"] * 3, "latency_s": [0.5] * 3}
    ours = [pa.array(given.get(one.name, [NOW] * 3), one.type) for one in predictions.OURS]
    answers = {"label": pa.array([one[1] for one in ANSWERS]),
               "probabilities": pa.array([one[2] for one in ANSWERS], pa.list_(pa.float32()))}
    (value,) = predictions.encode_batches(predictions.batch_of(ours, answers, model="shop", instance="predictor-0"))
    return [Outgoing(TOPIC, value, None, (("content-type", predictions.CONTENT_TYPE.encode()),), 0)]


def records(batched: bool) -> list[Record]:
    return [Record(TOPIC, 0, offset, one.key, one.value, one.headers) for offset, one in enumerate(outgoing(batched))]


@FORMS
def test_the_watchdog_joins_them_with_what_became_true(batched: bool) -> None:
    observing = Observing("watchdog-0", FakeClock())
    observing.pipeline("shop", pipeline("shop"))
    observing.take()
    source = quality.source(observing, "shop", 1, batches=batched)[TOPIC]
    for record in records(batched):
        source.check(message_of(record))
        source.take(message_of(record))
    for event_id in ("e-0", "e-1"):
        observing.turned_out("shop", outcomes_pb2.Outcome(event_id=event_id, entity="u", flag=True))
    taken = observing.take()
    assert [(one.version, one.truth, one.answer) for one in taken if isinstance(one, Judged)] == [
        (2, "true", "true"), (2, "true", "false")]
    assert [one.names for one in taken if isinstance(one, Predicted)] == [(("false", 1), ("true", 2))]


@FORMS
def test_the_trainer_hears_them_while_a_candidate_is_tried(batched: bool) -> None:
    labelled = Labelled(1, 2)
    for event_id, truth in (("e-0", "true"), ("e-1", "true"), ("e-2", "true")):
        labelled.turned_out(event_id, truth)
    for record in records(batched):
        hear(labelled, record, prediction=True)
    assert (labelled.losses[2].count, labelled.losses[1].count) == (3, 0)
    assert labelled.losses[2].mean == pytest.approx(1 / 3)


@FORMS
async def test_ledgers_count_each_row(batched: bool) -> None:
    broker = MemoryBroker()
    await broker.create_topics([TopicPlan(*plan) for plan in topics.plans("shop", 1, 1)])
    writer = broker.writer("test")
    await writer.start()
    async with Ledger(broker, "shop", "e-") as ledger:
        await writer.send_all(outgoing(batched))

        async def counted() -> bool:
            return ledger.predictions.total() >= 3

        await apoll_until(counted, "three predictions")
    await writer.stop()
    assert ledger.predictions == {"e-0": 1, "e-1": 1, "e-2": 1}
    assert [one for record in records(batched) for one in ids_of_prediction(record.value or b"")] == [
        "e-0", "e-1", "e-2"]
