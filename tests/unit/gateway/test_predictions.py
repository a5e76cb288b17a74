"""Predictions by named fields and by tensors: who is asked, with what, and what happens when that one fails."""

from pathlib import Path
from typing import Any

import grpc
import msgspec
import numpy as np

from lepton.contracts.pb import models_pb2
from lepton.contracts.pb.prediction_pb2 import PredictRequest
from lepton.contracts.topics import Topic
from tests.unit.gateway.house import House, open_house, predictor
from tests.unit.gateway.test_access import assert_problem

PREDICT = "/v1/models/shop/predict"
FEEDBACK = "/v1/models/shop/feedback"
INFER = "/v2/models/shop/infer"
ROW = {"price": 2.5, "colour": "red", "missing": None}


async def test_a_prediction_by_named_fields_carries_key_deadline_and_trace(house: House) -> None:
    async with predictor(house) as (said, _):
        parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        response = await house.admin.post(PREDICT, json={"rows": [ROW, {}], "request_id": "r-1"},
                                          headers={"traceparent": parent})
        assert response.status_code == 200, response.text
        answer = {"label": "predictor-0", "probabilities": {"predictor-0": 0.75}}
        assert response.json() == {"model": "shop", "version": 7, "request_id": "r-1", "rows": [answer, answer]}
        (asked,) = said.asked
        assert dict(asked.rows[0]) == ROW
        assert said.metadata[0]["authorization"] == house.admin.headers["authorization"]
        assert said.metadata[0]["traceparent"] == parent
        assert 5 < said.deadlines[0] <= 10
        assert not asked.explain
        await house.admin.post(PREDICT, json={"rows": [ROW], "explain": True})
        assert said.asked[1].explain
        deep: Any = 1
        for _ in range(150):
            deep = [deep]
        assert_problem(await house.admin.post(PREDICT, json={"rows": [{"price": deep}]}), 400, field="rows")


async def test_entities_and_rows_that_fail_alone_are_asked_for(house: House) -> None:
    async with predictor(house) as (said, _):
        response = await house.admin.post(PREDICT, json={"entities": ["ann", "bob"], "each": True})
        assert len(response.json()["rows"]) == 2
        assert (list(said.asked[0].entities), said.asked[0].each) == (["ann", "bob"], True)


async def test_outcomes_reach_a_predictor_with_labels_of_their_own_types(house: House) -> None:
    async with predictor(house) as (said, _):
        outcomes: list[dict[str, Any]] = [
            {"event_id": "e-1", "label": True}, {"event_id": "e-2", "label": 2}, {"event_id": "e-3", "label": "red"},
            {"entity": "ann", "label": 0.5, "at": "2026-03-01T00:00:00Z", "label_time": "2026-03-01T01:00:00+01:00"}]
        response = await house.admin.post(FEEDBACK, json={"outcomes": outcomes})
        assert (response.status_code, response.json()) == (202, {"event_ids": ["e-1", "e-2", "e-3", "found"]})
        asked = said.asked[0]
        assert [one.WhichOneof("label") for one in asked.outcomes] == ["flag", "number", "category", "number"]
        assert asked.outcomes[3].at.ToJsonString() == asked.outcomes[3].label_time.ToJsonString() == (
            "2026-03-01T00:00:00Z")
        assert not asked.outcomes[0].HasField("at")
        assert said.metadata[0]["authorization"] == house.admin.headers["authorization"]
    assert_problem(await (await house.with_scopes("predict")).post(FEEDBACK, json={"outcomes": outcomes}), 403)
    assert_problem(await house.admin.post(FEEDBACK, json={"outcomes": []}), 422)


async def test_opinions_reach_a_predictor_as_they_were_said(house: House) -> None:
    async with predictor(house) as (said, _):
        opinions: list[dict[str, Any]] = [
            {"event_id": "e-1", "accepted": False, "reason": "why", "version": 3}, {"entity": "ann", "score": 0.0}]
        response = await house.admin.post(FEEDBACK, json={"opinions": opinions})
        assert (response.status_code, response.json()) == (
            202, {"event_ids": [], "opinion_event_ids": ["e-1", "found"]})
        first, second = said.asked[0].opinions
        assert (first.WhichOneof("said"), first.accepted, first.reason, first.version) == ("accepted", False, "why", 3)
        assert (second.WhichOneof("said"), second.score, second.entity) == ("score", 0.0, "ann")
        for wrong in ({}, {"accepted": True, "score": 1.0}, {"score": 1.5}, {"accepted": "yes"},
                      {"accepted": True, "reason": "x" * 501}, {"accepted": True, "author": "somebody else"}):
            refused = await house.admin.post(FEEDBACK, json={"opinions": [opinions[0], {"event_id": "e-2", **wrong}]})
            assert_problem(refused, 422)
            assert "opinions" in refused.json()["problems"][0]["path"]
        assert len(said.asked) == 1


async def test_a_request_of_the_wrong_form_is_refused_with_the_field(house: House) -> None:
    wrong: list[Any] = [{}, {"rows": []}, {"rows": [1]}, {"rows": [{}], "verson": 1}, {"rows": "x"}]
    for body in wrong:
        refused = await house.admin.post(PREDICT, json=body)
        assert_problem(refused, 422)
        assert refused.json()["problems"][0]["path"].startswith(("rows", "verson"))
    broken = await house.admin.post(PREDICT, content="{", headers={"content-type": "application/json"})
    assert_problem(broken, 400, field="body")


async def test_the_least_loaded_replica_is_asked(house: House) -> None:
    async with predictor(house, "predictor-0", load=5) as (busy, _), predictor(house, "predictor-1") as (idle, _):
        for _ in range(3):
            await house.admin.post(PREDICT, json={"rows": [ROW]})
        assert (len(busy.asked), len(idle.asked)) == (0, 3)


async def test_a_dead_predictor_is_replaced_by_another_once(house: House) -> None:
    async with predictor(house, "predictor-0") as (_, server), predictor(house, "predictor-1", load=9) as (other, _):
        await server.stop(0)
        for _ in range(5):
            response = await house.admin.post(PREDICT, json={"rows": [ROW]})
            assert response.json()["rows"][0]["label"] == "predictor-1"
        assert len(other.asked) == 5


ANSWERED = (("lepton-answered", "1"),)
"""What a predictor says beside every status of its own."""


async def test_a_failing_model_is_asked_for_elsewhere_and_its_replica_for_everything_else(house: House) -> None:
    async with predictor(house, "predictor-0") as (ill, _), predictor(house, "predictor-1", load=9) as (other, _):
        for code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL):
            ill.fails = (code, "because", ANSWERED)
            for _ in range(3):
                response = await house.admin.post(PREDICT, json={"rows": [ROW]})
                assert response.json()["rows"][0]["label"] == "predictor-1"
        assert len(other.asked) == 6
        ill.fails = None
        before = len(ill.asked)
        await house.admin.post(FEEDBACK, json={"outcomes": [{"event_id": "e-1", "label": True}]})
        assert (len(ill.asked), len(other.asked)) == (before + 1, 6), "it was reached all the while"


async def test_who_asks_about_a_model_that_fails_makes_it_no_better(house: House) -> None:
    async with predictor(house, "predictor-0") as (ill, _), predictor(house, "predictor-1", load=9):
        for _ in range(6):
            ill.fails = None
            assert (await house.admin.get("/v2/models/shop/ready")).is_success
            ill.fails = (grpc.StatusCode.INTERNAL, "because", ANSWERED)
            assert (await house.admin.post(PREDICT, json={"rows": [ROW]})).is_success
        assert 3 <= sum(isinstance(one, PredictRequest) for one in ill.asked) < 6


async def test_whether_a_predictor_was_reached_is_what_it_says_itself(house: House) -> None:
    async with predictor(house) as (said, _):
        for trailing, told in ((ANSWERED, "could not answer"), ((), "did not answer")):
            said.fails = (grpc.StatusCode.UNAVAILABLE, "because", trailing)
            refused = await house.admin.post(PREDICT, json={"rows": [ROW]})
            assert_problem(refused, 503, field="predictor")
            assert refused.json()["detail"] == f"the predictor {told}: because"


MISSING = (grpc.StatusCode.NOT_FOUND, "no such version", ANSWERED)
SHOP = "/v2/models/shop"


async def test_a_version_that_is_named_is_asked_for_until_one_has_it(house: House) -> None:
    async with predictor(house, "predictor-0") as (first, _), predictor(house, "predictor-1", load=1) as (second, _), \
            predictor(house, "predictor-2", load=9) as (third, _):
        first.fails = second.fails = MISSING
        named = await house.admin.post(PREDICT, json={"rows": [ROW], "version": 3})
        assert named.json()["rows"][0]["label"] == "predictor-2", named.text
        assert (len(first.asked), len(second.asked), len(third.asked)) == (1, 1, 1)
        tensors = await house.admin.post(f"{SHOP}/versions/3/infer", content=b'{"inputs": []}')
        told = [await house.admin.get(f"{SHOP}/versions/3{path}") for path in ("", "/config", "/ready", "/stats")]
        assert [one.status_code for one in (tensors, *told)] == [200] * 5
        assert len(told[-1].json()["model_stats"]) == 1
        asked = len(second.asked)
        assert_problem(await house.admin.post(PREDICT, json={"rows": [ROW]}), 404)
        assert len(second.asked) == asked, "without a version the first answer stands"


async def test_a_version_is_missing_once_every_replica_that_can_be_asked_says_so(house: House) -> None:
    async with predictor(house, "predictor-0") as (first, _), predictor(house, "predictor-1", load=9) as (second, _):
        first.fails = second.fails = MISSING
        assert_problem(await house.admin.post(PREDICT, json={"rows": [ROW], "version": 3}), 404)
        assert (len(first.asked), len(second.asked)) == (1, 1)
        assert (await house.admin.get(f"{SHOP}/versions/3/stats")).status_code == 404
        second.fails = (grpc.StatusCode.UNAVAILABLE, "it is being loaded", ANSWERED)
        loading = await house.admin.post(PREDICT, json={"rows": [ROW], "version": 3})
        assert_problem(loading, 503, field="predictor")
        assert "it is being loaded" in loading.json()["detail"]
        first.fails = second.fails = None
        assert (await house.admin.get(f"{SHOP}/versions/9/ready")).status_code == 503
        assert (len(first.asked), len(second.asked)) == (4, 4)


async def test_without_another_replica_the_failure_is_said_and_may_be_tried_again(house: House) -> None:
    async with predictor(house) as (_, server):
        await server.stop(0)
        refused = await house.admin.post(PREDICT, json={"rows": [ROW]})
        assert_problem(refused, 503, field="predictor")
        assert refused.headers["retry-after"] == "1"


async def test_an_answer_that_does_not_come_in_time_is_not_asked_for_twice(tmp_path: Path) -> None:
    async with open_house(tmp_path, predict_timeout_s=0.3) as house, predictor(house, "predictor-0") as (slow, _), \
            predictor(house, "predictor-1", load=9) as (other, _):
        slow.hangs = True
        assert_problem(await house.admin.post(PREDICT, json={"rows": [ROW]}), 504)
        assert (len(slow.asked), len(other.asked)) == (1, 0)


CODES = {
    grpc.StatusCode.INVALID_ARGUMENT: 422, grpc.StatusCode.NOT_FOUND: 404, grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403, grpc.StatusCode.FAILED_PRECONDITION: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429, grpc.StatusCode.INTERNAL: 503, grpc.StatusCode.UNAVAILABLE: 503,
}


async def test_what_a_predictor_refuses_is_said_in_http(house: House) -> None:
    async with predictor(house) as (said, _):
        for code, status in CODES.items():
            said.fails = (code, "because")
            refused = await house.admin.post(PREDICT, json={"rows": [ROW]})
            assert refused.status_code == status, code
            assert "because" in refused.json()["detail"]
            assert (await house.admin.post(INFER, content=b'{"inputs": []}')).json()["error"].count("because") == 1


async def test_when_to_come_back_is_what_the_predictor_says(house: House) -> None:
    async with predictor(house) as (said, _):
        for trailing, after in (((("retry-after-s", "4.2"),), "5"), ((), "1")):
            said.fails = (grpc.StatusCode.RESOURCE_EXHAUSTED, "because", trailing)
            for refused in (await house.admin.post(PREDICT, json={"rows": [ROW]}),
                            await house.admin.post(INFER, content=b'{"inputs": []}')):
                assert (refused.status_code, refused.headers["retry-after"]) == (429, after)


async def test_a_model_nobody_has_is_missing_and_one_that_loads_is_unavailable(house: House) -> None:
    assert_problem(await house.admin.post(PREDICT, json={"rows": [ROW]}), 503)
    async with predictor(house, model="other"):
        assert_problem(await house.admin.post(PREDICT, json={"rows": [ROW]}), 404)
        state = models_pb2.ModelState(model="shop", revision=1, champion=1, key_id="trainer", signature=b"s",
                                      reason="published")
        state.changed_at.GetCurrentTime()
        await house.announce(Topic.MODELS, "shop", state)
        await house.until("/v1/models/shop", lambda said: said.status_code == 200, "the model to be known")
        assert_problem(await house.admin.post(PREDICT, json={"rows": [ROW]}), 503, field="predictor")


async def test_tensors_in_json_come_back_in_json(house: House) -> None:
    tensors = [
        {"name": "b", "datatype": "BOOL", "shape": [2], "data": [True, False]},
        {"name": "i", "datatype": "INT64", "shape": [2, 2], "data": [[1, 2], [3, 4]]},
        {"name": "u", "datatype": "UINT8", "shape": [1], "data": [255]},
        {"name": "f", "datatype": "FP32", "shape": [2], "data": [0.5, 1]},
        {"name": "d", "datatype": "FP64", "shape": [1], "data": [0.1]},
        {"name": "s", "datatype": "BYTES", "shape": [2], "data": ["rot", "grün"]},
    ]
    async with predictor(house) as (said, _):
        # tritonclient sends no JSON content type.
        response = await house.admin.post(INFER, content=msgspec.json.encode({"id": "r", "inputs": tensors}))
        assert response.status_code == 200, response.text
        told = response.json()
        assert (told["id"], told["model_name"], told["model_version"]) == ("r", "shop", "7")
        flat = {one["name"]: one["data"] for one in tensors} | {"i": [1, 2, 3, 4]}
        assert {one["name"]: one["data"] for one in told["outputs"]} == flat
        assert said.asked[0].raw_input_contents[5] == b"\x03\0\0\0rot\x05\0\0\0gr\xc3\xbcn"


async def test_raw_tensors_follow_the_json_both_ways(house: House) -> None:
    values = np.array([0.5, -1.5], np.float32)
    head = msgspec.json.encode({
        "inputs": [{"name": "f", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": 8}},
                   {"name": "j", "datatype": "INT32", "shape": [1], "data": [4]},
                   {"name": "h", "datatype": "FP16", "shape": [1], "parameters": {"binary_data_size": 2}}],
        "outputs": [{"name": "f", "parameters": {"binary_data": True}}, {"name": "j"}]})
    body = head + values.tobytes() + np.array([2], np.float16).tobytes()
    async with predictor(house) as (said, _):
        response = await house.admin.post(INFER, content=body, headers={
            "inference-header-content-length": str(len(head))})
        assert response.status_code == 200, response.text
        length = int(response.headers["inference-header-content-length"])
        told = msgspec.json.decode(response.content[:length])
        assert np.frombuffer(response.content[length:], np.float32).tolist() == [0.5, -1.5]
        assert [one.get("parameters") for one in told["outputs"]] == [{"binary_data_size": 8}, None, None]
        assert told["outputs"][1]["data"] == [4]
        assert [one.name for one in said.asked[0].outputs] == ["f", "j"]


WRONG_TENSORS: list[tuple[dict[str, Any], int]] = [
    ({"name": "f", "datatype": "FP32", "shape": [2], "data": [1.0]}, 422),
    ({"name": "f", "datatype": "FP32", "shape": [1], "data": ["x"]}, 422),
    ({"name": "f", "datatype": "INT8", "shape": [1], "data": [300]}, 422),
    ({"name": "f", "datatype": "INT64", "shape": [1], "data": [1.5]}, 422),
    ({"name": "f", "datatype": "BOOL", "shape": [1], "data": [1]}, 422),
    ({"name": "f", "datatype": "BYTES", "shape": [1], "data": [1]}, 422),
    ({"name": "f", "datatype": "FP128", "shape": [1], "data": [1]}, 422),
    ({"name": "f", "datatype": "FP32", "shape": [-1], "data": [1]}, 422),
    ({"name": "f", "datatype": "FP32", "shape": [1]}, 422),
    ({"name": "f", "datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": 4}}, 400),
    ({"name": "f", "shape": [1]}, 400),
    ({"name": "f", "datatype": "FP32", "shape": [2], "data": [[1.0], 2.0]}, 422),
]


async def test_a_tensor_that_cannot_be_is_refused_in_the_protocol_s_form(house: House) -> None:
    for tensor, status in WRONG_TENSORS:
        refused = await house.admin.post(INFER, content=msgspec.json.encode({"inputs": [tensor]}))
        assert refused.status_code == status, refused.text
        assert refused.json().keys() == {"error"}


async def test_parameters_of_a_request_travel_on(house: House) -> None:
    given = {"priority": 3, "trace": True, "share": 0.5, "tenant": "a", "binary_data_output": True}
    tensor = {"name": "f", "datatype": "FP32", "shape": [1], "data": [1.0]}
    async with predictor(house) as (said, _):
        response = await house.admin.post(INFER, content=msgspec.json.encode({
            "inputs": [tensor], "parameters": given}))
        assert response.headers["content-type"] == "application/octet-stream"
        told = said.asked[0].parameters
        assert (told["priority"].int64_param, told["trace"].bool_param, told["share"].double_param,
                told["tenant"].string_param, "binary_data_output" in told) == (3, True, 0.5, "a", False)
        refused = await house.admin.post(INFER, content=msgspec.json.encode({"inputs": [], "parameters": {"x": []}}))
        assert refused.status_code == 422


async def test_bytes_that_belong_to_no_input_and_wrong_lengths_are_refused(house: House) -> None:
    head = b'{"inputs": []}'
    deep = b'{"inputs": [{"name": "f", "data": ' + b"[" * 5000
    assert (await house.admin.post(INFER, content=deep)).status_code == 400
    for content, length in ((head + b"1234", len(head)), (head, 9999), (head, "x")):
        refused = await house.admin.post(INFER, content=content, headers={
            "inference-header-content-length": str(length)})
        assert refused.status_code == 400


async def test_the_protocol_s_metadata_and_readiness(house: House) -> None:
    assert (await house.admin.get("/v2/health/ready")).status_code == 503
    async with predictor(house) as (said, _):
        assert (await house.admin.get("/v2/health/ready")).status_code == 200
        assert (await house.admin.get("/v2")).json()["extensions"] == ["binary_tensor_data"]
        told = (await house.admin.get("/v2/models/shop")).json()
        assert told["inputs"] == [{"name": "price", "datatype": "FP64", "shape": [-1]}]
        assert (await house.admin.get("/v2/models/shop/versions/3")).json()["versions"] == ["3"]
        assert (await house.admin.get("/v2/models/shop/ready")).json() == {"name": "shop", "ready": True}
        assert (await house.admin.get("/v2/models/shop/versions/9/ready")).status_code == 503
        assert (await house.admin.post("/v2/models/shop/versions/3/infer", content=b'{"inputs": []}')).is_success
        assert said.asked[-1].model_version == "3"
        assert (await house.admin.get("/v2/models/none")).status_code == 404
