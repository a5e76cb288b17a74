"""The REST form of the inference protocol beside inference: configuration, statistics of all replicas, repository."""

from typing import Any

from lepton.contracts.pb import grpc_service_pb2 as inference
from services.gateway.core.statistics import catalogue
from tests.unit.gateway.house import House, predictor

INFER = "/v2/models/shop/infer"


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
