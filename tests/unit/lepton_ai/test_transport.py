"""Answers become outcomes, and only what may be repeated is."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import json_format

from lepton.clock import FakeClock
from lepton.contracts.pb import prediction_pb2, prediction_pb2_grpc
from lepton.errors import Busy, Invalid, LeptonError, Missing, Refused, Unavailable
from lepton_ai._credentials import Credentials
from lepton_ai._predicting.messages import Question
from lepton_ai._transport import Transport
from tests.unit.lepton_ai.doors import KEY_ID, SECRET, Desk, open_door


class SwiftClock(FakeClock):
    """Sleeps take no time, and are remembered."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._move_to(self.monotonic() + seconds)


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def credentials(desk: Desk) -> Iterator[Credentials]:
    with open_door(desk) as found:
        yield found


@pytest.fixture
async def transport(credentials: Credentials) -> AsyncIterator[Transport]:
    opened = Transport(credentials, SwiftClock())
    yield opened
    await opened.close()


@pytest.mark.parametrize(("status", "error"), [
    (400, Invalid), (422, Invalid), (401, Refused), (403, Refused), (409, Refused), (404, Missing), (500, LeptonError)])
async def test_a_status_stands_for_an_outcome_and_is_asked_once(status: int, error: type[LeptonError], desk: Desk,
                                                                transport: Transport) -> None:
    desk.fail = [(status, {}, {"detail": "no", "field": "f", "place": "p", "remedy": "r"})]
    with pytest.raises(error, match="no; field: f; at: p; remedy: r"):
        await transport.get("/v1/pipelines")
    assert await transport.get("/v1/pipelines") == []


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_what_may_pass_is_tried_again(status: int, desk: Desk, transport: Transport) -> None:
    desk.fail = [(status, {}, "gone"), (status, {}, "gone")]
    assert await transport.get("/v1/pipelines") == []


async def test_busy_waits_as_long_as_it_is_told(desk: Desk, transport: Transport) -> None:
    desk.fail = [(429, {"retry-after": "7"}, {})]
    await transport.get("/v1/pipelines")
    clock = transport.clock
    assert isinstance(clock, SwiftClock)
    assert len(clock.slept) == 1 and 5.6 <= clock.slept[0] <= 8.4


async def test_what_may_have_been_done_is_not_done_again(desk: Desk, transport: Transport) -> None:
    desk.fail = [(429, {}, {}), (503, {}, {"detail": "gone"})]
    with pytest.raises(Unavailable, match="gone"):
        await transport.post("/v1/keys", {"scopes": []}, repeatable=False)
    assert desk.keys == {}


async def test_trying_ends_at_the_deadline(desk: Desk, transport: Transport) -> None:
    desk.fail = [(429, {"retry-after": "soon"}, {"detail": "too much"})] * 200
    with pytest.raises(Busy, match="too much"):
        await transport.get("/v1/pipelines")
    assert transport.clock.monotonic() <= 36


async def test_a_closed_port_is_unavailable_with_the_remedy(credentials: Credentials) -> None:
    nobody = Transport(Credentials(KEY_ID, SECRET, "http://127.0.0.1:9"), SwiftClock())
    try:
        with pytest.raises(Unavailable, match="make up"):
            await nobody.get("/v1/pipelines")
    finally:
        await nobody.close()


async def test_every_problem_of_a_body_is_told(desk: Desk, transport: Transport) -> None:
    desk.fail = [(422, {}, {"detail": "two", "problems": [
        {"path": "a.b", "line": 3, "message": "is wrong", "remedy": "mend it"}, {"path": "c", "message": "too"}]})]
    with pytest.raises(Invalid) as refused:
        await transport.post("/v1/pipelines", {})
    assert str(refused.value) == "2 problems:\n  line 3, a.b: is wrong (mend it)\n  c: too"


@pytest.mark.parametrize("told", ["<html>", [1], {"title": "Teapot"}])
async def test_an_answer_of_another_form_still_says_something(told: Any, desk: Desk, transport: Transport) -> None:
    desk.fail = [(418, {}, told)]
    with pytest.raises(LeptonError, match=r"HTTP 418|Teapot"):
        await transport.get("/v1/pipelines")


class Oracle(prediction_pb2_grpc.PredictionServicer):
    """Answers a class for model `kinds`, a number for any other, and refuses strangers. `soon` is busy twice."""

    def __init__(self) -> None:
        self.soon = 2

    async def Predict(self, request: prediction_pb2.PredictRequest,
                      context: Any) -> prediction_pb2.PredictResponse:
        if ("authorization", f"Bearer {KEY_ID}.{SECRET}") not in tuple(context.invocation_metadata()):
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "no valid key")
        self.soon -= request.model == "soon"
        if request.model == "busy" or (request.model == "soon" and self.soon >= 0):
            told = (("retry-after-s", "4.000"),) if request.model == "soon" else ()
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too much", told)
        answer = prediction_pb2.PredictResponse(model=request.model, version=request.version)
        for name in request.entities if request.each else ():
            if name == "bob":
                answer.rows.add().error.MergeFrom(prediction_pb2.RowError(outcome="Missing", message="nothing known"))
                return answer
            joined = answer.rows.add(number=2.0).joined
            joined.event_id, joined.occurred_at.seconds = f"{name}-1", 5
        for row in request.rows:
            if request.model == "kinds":
                answer.rows.add(label="a", probabilities={"a": 1.0}, attributions={"size": 0.5} if request.explain
                                else {})
            else:
                answer.rows.add(number=json_format.MessageToDict(row)["size"])
        return answer

    async def Feedback(self, request: prediction_pb2.FeedbackRequest,
                       context: Any) -> prediction_pb2.FeedbackResponse:
        return prediction_pb2.FeedbackResponse(event_ids=[one.event_id for one in request.outcomes])


@pytest.fixture
async def predictor() -> AsyncIterator[str]:
    server = grpc.aio.server()
    prediction_pb2_grpc.add_PredictionServicer_to_server(Oracle(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


async def test_rows_are_predicted_over_grpc(predictor: str) -> None:
    transport = Transport(Credentials(KEY_ID, SECRET, "http://127.0.0.1:9", predictor), SwiftClock())
    try:
        sizes = Question("m", [{"size": 1.5}, {"size": 2}])
        assert await transport.predict(sizes) == [{"number": 1.5}, {"number": 2.0}]
        assert await transport.predict(Question("kinds", [{}], 1)) == [{"label": "a", "probabilities": {"a": 1.0}}]
        assert await transport.predict(Question("kinds", [{}], 1, True)) == [
            {"label": "a", "probabilities": {"a": 1.0}, "attributions": {"size": 0.5}}]
        first, second = await transport.predict(Question("joined", [{}], entities=["ann", "bob"], each=True))
        assert first == {"number": 2.0, "joined": {"event_id": "ann-1", "occurred_at": "1970-01-01T00:00:05Z"}}
        assert second == {"error": {"outcome": "Missing", "message": "nothing known", "field": "", "remedy": ""}}
        assert await transport.predict(Question("soon", [{"size": 3}])) == [{"number": 3.0}]
        assert isinstance(transport.clock, SwiftClock) and len(transport.clock.slept) == 2
        assert all(3.2 <= slept <= 4.8 for slept in transport.clock.slept)
        with pytest.raises(Busy, match="too much"):
            await transport.predict(Question("busy", [{}], 0))
        with pytest.raises(Invalid, match="JSON"):
            await transport.predict(Question("m", [{"size": object()}], 0))
    finally:
        await transport.close()


async def test_a_stranger_is_refused_over_grpc_and_a_region_without_predictor_says_so(predictor: str) -> None:
    stranger = Transport(Credentials(KEY_ID, "z" * 43, "http://127.0.0.1:9", predictor))
    nowhere = Transport(Credentials(KEY_ID, SECRET, "http://127.0.0.1:9"))
    try:
        with pytest.raises(Refused, match="no valid key"):
            await stranger.predict(Question("m", [{}], 0))
        with pytest.raises(Missing, match="names no predictor"):
            await nowhere.predict(Question("m", [{}], 0))
    finally:
        await stranger.close()
        await nowhere.close()
