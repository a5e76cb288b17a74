"""The REST form of the inference protocol beside inference: configuration, statistics of all replicas, repository."""

import gzip
import json
import zlib
from typing import Any

from lepton.contracts.pb import grpc_service_pb2 as inference
from services.gateway.core.statistics import catalogue
from services.gateway.edge.http.context import bug
from tests.unit.gateway.house import House, predictor

INFER = "/v2/models/shop/infer"
PRICE = {"name": "price", "datatype": "FP64", "shape": [1], "data": [1.0]}


async def test_a_configuration_names_datatypes_as_the_protocol_does(house: House) -> None:
    async with predictor(house) as (said, _):
        for path in ("/v2/models/shop/config", "/v2/models/shop/versions/7/config"):
            told = (await house.admin.get(path)).json()
            assert (told["name"], told["max_batch_size"]) == ("shop", 64)
            assert told["input"][0]["data_type"] == "TYPE_FP64"
        assert said.asked[-1].version == "7"
        assert (await house.admin.get("/v2/models/none/config")).json().keys() == {"error"}


async def test_statistics_are_those_of_all_replicas_together(house: House) -> None:
    async with predictor(house, "predictor-0"), predictor(house, "the-longer-name"):
        for path in ("/v2/models/shop/stats", "/v2/models/shop/versions/7/stats", "/v2/models/stats"):
            (told,) = (await house.admin.get(path)).json()["model_stats"]
            assert (told["inference_count"], told["execution_count"], told["last_inference"]) == (10, 2, 15)
            assert told["inference_stats"]["success"] == {"count": 4, "ns": 6_000_000_000}
            assert told["batch_stats"] == [{"batch_size": 5, "compute_infer": {"count": 4, "ns": 6_000_000_000},
                                            "compute_input": {"count": 0, "ns": 0},
                                            "compute_output": {"count": 0, "ns": 0}}]
        assert (await house.admin.get("/v2/models/none/stats")).status_code == 404


async def test_the_repository_lists_each_version_once_and_ready_where_one_has_it(house: House) -> None:
    async with predictor(house, "predictor-0"), predictor(house, "predictor-1") as (said, _):
        for body in (b"", b'{"ready": true}'):
            found = await house.admin.post("/v2/repository/index", content=body)
            assert found.json() == [{"name": "shop", "version": "7", "state": "READY", "reason": ""}]
        assert said.asked[-1].ready
        assert (await house.admin.post("/v2/repository/index", content=b"[")).status_code == 400
    entry = inference.RepositoryIndexResponse.ModelIndex
    one, two = (inference.RepositoryIndexResponse(models=[entry(name="a", version=version, state=state)])
                for version, state in (("", "LOADING"), ("3", "READY")))
    assert [list(catalogue(both).models) for both in ([one, two], [two, one])] == [list(two.models)] * 2


async def test_every_replica_loads_and_unloads_for_who_may_ask(house: House) -> None:
    reader = await house.with_scopes("predict")
    async with predictor(house, "predictor-0") as (first, _), predictor(house, "predictor-1") as (second, _):
        for verb in ("load", "unload"):
            path = f"/v2/repository/models/shop/{verb}"
            assert (await reader.post(path)).status_code == 403
            assert (await house.admin.post(path, content=b'{"parameters": {}}')).status_code == 200
            asked: list[Any] = [said.asked[-1] for said in (first, second)]
            assert [one.model_name for one in asked] == ["shop", "shop"]
        await house.admin.post("/v2/repository/models/shop/load", json={"parameters": {"config": "{}"}})
        assert list(first.asked[-1].parameters) == ["config"]


async def test_classification_is_passed_on(house: House) -> None:
    async with predictor(house) as (said, _):
        body = {"inputs": [{"name": "price", "datatype": "FP64", "shape": [1], "data": [1.0]}],
                "outputs": [{"name": "price", "parameters": {"classification": 2}}]}
        assert (await house.admin.post(INFER, json=body)).is_success
        assert said.asked[-1].outputs[0].parameters["classification"].int64_param == 2


async def test_numbers_that_no_tensor_holds_are_refused_by_name(house: House) -> None:
    async with predictor(house) as (said, _):
        changes: tuple[dict[str, Any], ...] = (
            {"shape": [2**63]}, {"shape": [4, 2**62], "data": []}, {"shape": [-1]}, {"data": [[1, 2]]},
            {"datatype": "FP16", "data": [1e9]}, {"datatype": "FP32", "data": [1e300]},
            {"datatype": "INT64", "data": [2**63]})
        for changed in changes:
            refused = await house.admin.post(INFER, json={"inputs": [PRICE | changed]})
            assert (refused.status_code, refused.json().keys()) == (422, {"error"}), changed
            assert "price" in refused.json()["error"]
        memory = {name: value for name, value in PRICE.items() if name != "data"} | {
            "parameters": {"shared_memory_region": "r", "shared_memory_offset": 2**63}}
        refused = await house.admin.post(INFER, json={"inputs": [memory]})
        assert refused.status_code == 422 and "shared_memory_offset" in refused.json()["error"]
        for more in ({"parameters": {"priority": 2**63}},
                     {"outputs": [{"name": "price", "parameters": {"classification": 2**64}}]}):
            refused = await house.admin.post(INFER, json={"inputs": [PRICE], **more})
            assert refused.status_code == 422 and "64 bits" in refused.json()["error"]
        for length in ("\u00b2", "9" * 5000, "+1"):
            told = {b"inference-header-content-length": length.encode("latin-1")}
            assert (await house.admin.post(INFER, json={"inputs": [PRICE]}, headers=told)).status_code == 400
        assert not said.asked


async def test_bodies_may_be_compressed_within_the_limit_and_answers_are_when_just_that_is_asked_for(
        house: House) -> None:
    body = json.dumps({"inputs": [PRICE]}).encode()
    async with predictor(house) as (said, _):
        async def send(content: bytes, coding: str, accepted: str = "identity") -> Any:
            return await house.admin.post(INFER, content=content, headers={
                "content-encoding": coding, "accept-encoding": accepted})
        assert "content-encoding" not in (await send(body, "identity", "gzip")).headers
        said.answers = inference.ModelInferResponse(
            model_name="shop", raw_output_contents=[b"\0" * 4096], outputs=[
                inference.ModelInferResponse.InferOutputTensor(name="price", datatype="FP64", shape=[512])])
        for coding, content in (("gzip", gzip.compress(body)), ("deflate", zlib.compress(body)), ("identity", body)):
            answered = await send(content, coding)
            assert answered.is_success and "content-encoding" not in answered.headers
            assert said.asked[-1].raw_input_contents == [b"\0\0\0\0\0\0\xf0?"]
            packed = await send(content, coding, "gzip")
            assert packed.headers["content-encoding"] == "gzip" and packed.json() == answered.json()
            assert "content-encoding" not in (await send(content, coding, "gzip, deflate, br")).headers
        asked = len(said.asked)
        bomb = gzip.compress(b" " * (house.settings.max_body_bytes + 1))
        whole = gzip.compress(body)
        for content, coding, status in ((bomb, "gzip", 413), (body, "gzip", 400), (whole[:-1], "gzip", 400),
                                        (whole * 2, "gzip", 400), (body, "br", 415)):
            refused = await send(content, coding)
            assert (refused.status_code, refused.json().keys()) == (status, {"error"})
        assert len(said.asked) == asked


def test_a_bug_is_told_in_the_form_of_its_door() -> None:
    assert json.loads(bytes(bug("/v2/models/m/infer").body)).keys() == {"error"}
    assert json.loads(bytes(bug("/v1/models/m/predict").body))["status"] == 500
