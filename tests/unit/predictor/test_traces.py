"""A trace that comes in goes on: through a call, through a scored row, and in the records they lead to."""

from pathlib import Path

from lepton.contracts.envelope import Envelope
from tests.harness.bus import read_all
from tests.harness.onnx_models import Linear
from tests.unit.predictor.world import amounts, world
from tests.unit.runtime.test_telemetry import Collector

ONE = {"amount": "float"}
TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACE = f"00-{TRACE_ID}-{PARENT_ID}-01"


async def test_a_scored_row_gets_a_span_of_its_trace_and_hands_it_on(tmp_path: Path,
                                                                     collector: tuple[Collector, str]) -> None:
    received, endpoint = collector
    async with world(tmp_path, otlp_endpoint=endpoint) as here:
        spec = await here.registry.apply("tiny", ONE)
        await here.registry.publish("tiny", Linear(ONE))
        await here.metric('lepton_predictor_model_version{model="tiny"')
        await here.registry.features(spec, [{"_event_id": "e-0", "amount": 1.0, "_traceparent": TRACE},
                                            {"_event_id": "e-1", "amount": 1.0}])
        await here.predictions("tiny", 2)
        records = await read_all(here.broker, "lepton-predictions-tiny")
    spans = [span for span in received.spans if span.name == "score"]
    assert [(span.trace_id.hex(), span.parent_span_id.hex()) for span in spans] == [(TRACE_ID, PARENT_ID)]
    assert {one.key for one in spans[0].attributes} == {"lepton.event_id", "lepton.model", "lepton.model_version"}
    assert spans[0].end_time_unix_nano >= spans[0].start_time_unix_nano
    traces = {envelope.event_id: envelope.traceparent
              for envelope in (Envelope.from_headers(record.headers) for record in records)}
    assert traces == {"e-0": f"00-{TRACE_ID}-{spans[0].span_id.hex()}-01", "e-1": None}


async def test_a_call_is_a_span_of_its_callers_trace_and_its_logged_answer_too(
        tmp_path: Path, collector: tuple[Collector, str]) -> None:
    received, endpoint = collector
    async with world(tmp_path, otlp_endpoint=endpoint, log_share=1.0) as here:
        await here.registry.apply("tiny", ONE)
        await here.registry.publish("tiny", Linear(ONE))
        await here.serving("tiny", 1)
        await here.stub.ModelInfer(amounts("tiny", 1.0, request_id="traced"),
                                   metadata=(*here.metadata, ("traceparent", TRACE)))
        await here.predictions("tiny", 2)
        records = await read_all(here.broker, "lepton-predictions-tiny")
    calls = [span for span in received.spans if span.name == "inference.GRPCInferenceService/ModelInfer"
             and span.trace_id.hex() == TRACE_ID]
    assert [span.parent_span_id.hex() for span in calls] == [PARENT_ID]
    traces = {envelope.event_id: envelope.traceparent
              for envelope in (Envelope.from_headers(record.headers) for record in records)}
    assert (traces["traced"] or "").startswith(f"00-{TRACE_ID}-")
