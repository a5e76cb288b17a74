"""Every accepted row is answered once by the champion, or passed over and counted; order, traces and offsets hold."""

import itertools
from pathlib import Path
from typing import Any

import pytest

from lepton.bus.records import Place
from lepton.contracts import codec, features
from lepton.contracts.arrow.stream import CONTENT_TYPE
from lepton.contracts.envelope import Envelope
from lepton.contracts.pb import predictions_pb2
from lepton.contracts.topics import Topic
from lepton.errors import Unavailable
from services.predictor.core.session import Session
from services.predictor.edge import scoring as scorings
from tests.harness.bus import read_all
from tests.harness.onnx_models import Linear
from tests.harness.predictions import served, traced
from tests.harness.registry import features_batch
from tests.harness.wait import apoll_until
from tests.unit.predictor.world import World, world

FIELDS = {"amount": "float", "country": "category"}
FORMS = pytest.mark.parametrize("results", ["records", "batches"])
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def rows(count: int, prefix: str = "e", **more: Any) -> list[dict[str, Any]]:
    """Rows whose answer, by a `Linear` of weights 1, is their number, and one more for the odd ones."""
    return [{"_event_id": f"{prefix}-{number}", "amount": float(number), "country": "us" if number % 2 else None} | more
            for number in range(count)]


async def scored(here: World, model: str = "tiny", linear: Linear | None = None, results: str = "records") -> Any:
    """A pipeline whose champion answers."""
    spec = await here.registry.apply(model, FIELDS, results=results)
    await here.registry.publish(model, linear or Linear(FIELDS))
    await here.metric(f'lepton_predictor_model_version{{model="{model}",provider="CPUExecutionProvider"}} 1.0')
    return spec


@FORMS
async def test_every_row_gets_one_prediction_with_the_key_of_its_entity(tmp_path: Path, results: str) -> None:
    async with world(tmp_path) as here:
        spec = await scored(here, results=results)
        for partition, prefix in ((0, "a"), (1, "b"), (0, "c")):
            await here.registry.features(spec, rows(40, prefix), partition=partition)
        found = {one.event_id: one for one in await here.predictions("tiny", 120)}
        assert len(found) == 120
        for prefix, number in itertools.product("abc", range(40)):
            one = found[f"{prefix}-{number}"]
            assert one.number == number + number % 2
            assert one.entity == f"entity-{number % 7}"
            assert (one.model, one.version, one.instance) == ("tiny", 1, "predictor-0")
            assert one.source == predictions_pb2.PREDICTION_SOURCE_STREAM
            assert 0 <= one.latency_s < 60
        records = await read_all(here.broker, "lepton-predictions-tiny")
        assert len(records) == 120 if results == "records" else 2 <= len(records) <= 3
        await here.metric('lepton_predictor_scored_rows_total{model="tiny",version="1"} 120.0')
        offsets = await here.broker.group_offsets("predictor.tiny")
        assert set(offsets) == {Place("lepton-features-tiny", 0), Place("lepton-features-tiny", 1)}


@FORMS
async def test_predictions_of_a_partition_keep_the_order_of_their_events(tmp_path: Path, results: str) -> None:
    async with world(tmp_path) as here:
        spec = await scored(here, results=results)
        for batch in range(5):
            await here.registry.features(spec, rows(10, f"b{batch}"))
        await here.predictions("tiny", 50)
        records = await read_all(here.broker, "lepton-predictions-tiny")
        for partition in (0, 1):
            ids = [one.event_id for one in served(record for record in records if record.partition == partition)]
            assert ids == sorted(ids, key=lambda one: (int(one[1]), int(one.partition("-")[2])))


@FORMS
async def test_labels_come_with_their_probabilities(tmp_path: Path, results: str) -> None:
    async with world(tmp_path) as here:
        spec = await scored(here, linear=Linear(FIELDS, bias=-5.0, classes=("no", "yes")), results=results)
        await here.registry.features(spec, rows(20))
        found = {one.event_id: one for one in await here.predictions("tiny", 20)}
        assert (found["e-0"].label, found["e-19"].label) == ("no", "yes")
        assert sum(found["e-19"].probabilities) == pytest.approx(1.0)


async def test_what_is_written_is_what_the_contract_encodes(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        spec = await scored(here, linear=Linear(FIELDS, classes=("no", "yes")))
        await here.registry.features(spec, rows(1))
        await here.predictions("tiny", 1)
        (record,) = await read_all(here.broker, "lepton-predictions-tiny")
        message = codec.decode(Topic.PREDICTIONS, record.value or b"")
        assert codec.decode(Topic.PREDICTIONS, codec.encode(Topic.PREDICTIONS, message)) == message
        envelope = Envelope.from_headers(record.headers)
        assert (envelope.event_id, envelope.source, envelope.event_type) == (
            "e-0", "lepton/predictor-0", "lepton.prediction")


async def test_rows_without_a_champion_are_passed_over_and_counted(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        spec = await here.registry.apply("tiny", FIELDS)
        await here.registry.features(spec, rows(7))
        await here.metric('lepton_predictor_rows_without_model_total{pipeline="tiny"} 7.0')
        await here.registry.publish("tiny", Linear(FIELDS))
        await here.metric('lepton_predictor_model_version{model="tiny",provider="CPUExecutionProvider"} 1.0')
        await here.registry.features(spec, rows(3, "later"))
        assert {one.event_id for one in await here.predictions("tiny", 3)} == {"later-0", "later-1", "later-2"}


async def test_rows_wait_for_a_champion_that_cannot_be_had_yet(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        spec = await here.registry.apply("tiny", FIELDS)
        await here.registry.publish("tiny", Linear(FIELDS), store=False)
        await here.metric('lepton_errors_total{kind="model_unavailable"}')
        await here.registry.features(spec, rows(7))
        await here.metric('lepton_errors_total{kind="setback"}')
        await here.registry.artifacts.put(Linear(FIELDS).build())
        assert len(await here.predictions("tiny", 7)) == 7
        assert "rows_without_model_total{" not in here.metrics()


@FORMS
async def test_a_model_that_fails_for_a_moment_costs_no_row_and_doubles_none(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, results: str) -> None:
    async with world(tmp_path) as here:
        spec = await scored(here, results=results)
        run, failures = Session.run, iter([True, True])

        def unsteady(session: Session, arrays: Any) -> Any:
            if next(failures, False):
                raise Unavailable("the device was reset")
            return run(session, arrays)

        monkeypatch.setattr(Session, "run", unsteady)
        for batch in range(3):
            await here.registry.features(spec, rows(10, f"b{batch}"))
        found = await here.predictions("tiny", 30)
        assert len({one.event_id for one in found}) == len(found) == 30
        await here.metric('lepton_predictor_scored_rows_total{model="tiny",version="1"} 30.0')


async def test_a_record_that_is_no_batch_is_a_dead_letter_and_stops_nobody(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        spec = await scored(here)
        await here.registry.raw_features(spec, b"no arrow")
        await here.registry.features(spec, rows(3))
        assert len(await here.predictions("tiny", 3)) == 3
        (letter,) = await read_all(here.broker, "lepton-features-tiny-dead-letters")
        assert letter.value == b"no arrow"
        assert b"not an Arrow stream" in dict(letter.headers)["lepton-dead-reason"]


async def test_rows_of_other_types_than_the_model_takes_are_passed_over_loudly(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        spec = await scored(here)
        other = features_batch(spec, rows(4))
        index = other.schema.get_field_index("amount")
        other = other.set_column(index, "amount", other.column(index).cast("string"))
        await here.registry.raw_features(spec, features.encode_batch(other))
        await here.registry.features(spec, rows(3))
        assert len(await here.predictions("tiny", 3)) == 3
        await here.metric('lepton_predictor_rows_without_model_total{pipeline="tiny"} 4.0')
        await here.metric('lepton_errors_total{kind="rows_not_scored"} 1.0')


@FORMS
async def test_a_sampled_row_hands_its_trace_on(tmp_path: Path, results: str) -> None:
    async with world(tmp_path) as here:
        spec = await scored(here, results=results)
        await here.registry.features(spec, [*rows(1, _traceparent=TRACE), *rows(1, "dark")])
        await here.predictions("tiny", 2)
        records = await read_all(here.broker, "lepton-predictions-tiny")
        traces = {message.event_id: trace for record in records for message, trace in traced(record)}
        assert traces == {"e-0": TRACE, "dark-0": None}


async def test_the_form_of_results_may_change_while_rows_come(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(scorings, "INLINE_ROWS", 10)
    caplog.set_level("INFO", "services.predictor.edge.pipelines")
    async with world(tmp_path) as here:
        spec = await scored(here)
        await here.registry.features(spec, rows(20, "single"))
        await here.predictions("tiny", 20)
        await here.registry.announce_pipeline("tiny", FIELDS, version=2, results="batches")

        async def changed() -> bool:
            return "tiny is scored from generation 1, into batches" in caplog.text

        await apoll_until(changed, "the other form")
        await here.registry.features(spec, rows(20, "many"))
        found = await here.predictions("tiny", 40)
        assert len({one.event_id for one in found}) == len(found) == 40
        *_, last = await read_all(here.broker, "lepton-predictions-tiny")
        assert len(served([last])) == 20
        assert dict(last.headers)["content-type"] == CONTENT_TYPE.encode()


async def test_a_pipeline_of_a_new_generation_is_scored_from_its_own_topics(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        spec = await scored(here)
        await here.registry.apply("tiny", FIELDS, generation=2, version=2)
        await here.registry.features(spec, rows(4), generation=2)
        assert len(await here.predictions("tiny", 4, generation=2)) == 4
        assert await here.broker.group_offsets("predictor.tiny.g2")


async def test_a_deleted_pipeline_is_scored_no_more_and_may_come_back(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        spec = await scored(here)
        await here.registry.features(spec, rows(2, "first"))
        await here.predictions("tiny", 2)
        await here.registry.delete(spec)

        async def ended() -> bool:
            return "score tiny" not in here.checks()

        await apoll_until(ended, "the scoring loop to end")
        await here.registry.features(spec, rows(2, "away"))
        await here.registry.apply("tiny", FIELDS, version=3)
        assert len(await here.predictions("tiny", 4)) == 4


async def test_scoring_that_cannot_start_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scorings, "AGAIN_S", 0.05)
    async with world(tmp_path) as here:
        # A pipeline is announced although its topics are not there, which a gateway never does.
        spec = await here.registry.announce_pipeline("tiny", FIELDS)
        await here.registry.publish("tiny", Linear(FIELDS))
        await here.metric('lepton_errors_total{kind="scoring_waits"}')
        await here.metric('lepton_predictor_model_version{model="tiny",provider="CPUExecutionProvider"} 1.0')
        await here.registry.apply("tiny", FIELDS)
        await here.registry.features(spec, rows(2))
        assert len(await here.predictions("tiny", 2)) == 2
